"""A neural-net library in some two hundred lines of numpy, with backpropagation by hand.

Every layer knows three things: how to compute its output (`forward`), how to pass a gradient back through itself
(`backward`, after the `forward` it belongs to), and which ONNX nodes say the same (`emit`). What is trained here is
therefore exactly what is served. Shapes are written [n, ...] with n the rows of a batch; everything is float32.
"""

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from graph import Graph


class Param:
    """A trained array and the gradient of the loss by it."""

    def __init__(self, value: np.ndarray):
        self.value = value.astype(np.float32)
        self.grad = np.zeros_like(self.value)


def he(rng: np.random.Generator, fan_in: int, *shape: int) -> Param:
    """Normal weights of variance 2 / fan_in (He et al. 2015), which keeps the scale of signals through ReLUs."""
    return Param(rng.normal(0.0, np.sqrt(2.0 / fan_in), shape))


class Layer:
    params: list[Param] = []

    def forward(self, x: np.ndarray) -> np.ndarray:
        raise NotImplementedError

    def backward(self, dy: np.ndarray) -> np.ndarray | None:
        """Sets the gradients of its params; dy and the result have the shapes of forward's result and input."""
        raise NotImplementedError

    def emit(self, g: Graph, x: str) -> str:
        raise NotImplementedError


class Dense(Layer):
    """y = x W + b: [n, inputs] -> [n, outputs]."""

    def __init__(self, inputs: int, outputs: int, rng: np.random.Generator):
        self.weight = he(rng, inputs, inputs, outputs)
        self.bias = Param(np.zeros(outputs))
        self.params = [self.weight, self.bias]

    def forward(self, x):
        self.x = x
        return x @ self.weight.value + self.bias.value

    def backward(self, dy):
        self.weight.grad = self.x.T @ dy
        self.bias.grad = dy.sum(axis=0)
        return dy @ self.weight.value.T

    def emit(self, g, x):
        return g.op("Gemm", x, g.weight("dense.weight", self.weight.value), g.weight("dense.bias", self.bias.value))


class Conv2d(Layer):
    """Convolution with an odd kernel, zero-padded to keep height and width: [n, c_in, h, w] -> [n, c_out, h, w]."""

    def __init__(self, c_in: int, c_out: int, size: int, rng: np.random.Generator):
        self.size = size
        self.weight = he(rng, c_in * size * size, c_out, c_in, size, size)
        self.bias = Param(np.zeros(c_out))
        self.params = [self.weight, self.bias]

    def forward(self, x):
        self.shape = n, c, h, w = x.shape
        k, pad = self.size, self.size // 2
        padded = np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
        windows = sliding_window_view(padded, (k, k), axis=(2, 3))  # [n, c, h, w, k, k]
        self.columns = windows.transpose(0, 2, 3, 1, 4, 5).reshape(n * h * w, c * k * k)
        y = self.columns @ self.kernels().T + self.bias.value
        return y.reshape(n, h, w, -1).transpose(0, 3, 1, 2)

    def backward(self, dy):
        n, c, h, w = self.shape
        k, pad = self.size, self.size // 2
        dy = dy.transpose(0, 2, 3, 1).reshape(n * h * w, -1)
        self.weight.grad = (dy.T @ self.columns).reshape(self.weight.value.shape)
        self.bias.grad = dy.sum(axis=0)
        dcolumns = (dy @ self.kernels()).reshape(n, h, w, c, k, k).transpose(0, 3, 1, 2, 4, 5)
        dx = np.zeros((n, c, h + 2 * pad, w + 2 * pad), np.float32)
        for i in range(k):
            for j in range(k):
                dx[:, :, i : i + h, j : j + w] += dcolumns[..., i, j]
        return dx[:, :, pad : pad + h, pad : pad + w]

    def kernels(self) -> np.ndarray:
        """The kernels as a matrix, one row per output channel."""
        return self.weight.value.reshape(len(self.weight.value), -1)

    def emit(self, g, x):
        weight, bias = g.weight("conv.weight", self.weight.value), g.weight("conv.bias", self.bias.value)
        return g.op("Conv", x, weight, bias, kernel_shape=[self.size] * 2, pads=[self.size // 2] * 4)


class MaxPool(Layer):
    """The largest of each 2 x 2 square: [n, c, h, w] -> [n, c, h/2, w/2], h and w even."""

    def forward(self, x):
        n, c, h, w = x.shape
        squares = x.reshape(n, c, h // 2, 2, w // 2, 2)
        y = squares.max(axis=(3, 5), keepdims=True)
        self.winner = squares == y
        return y.reshape(n, c, h // 2, w // 2)

    def backward(self, dy):
        n, c, h, w = dy.shape
        ties = self.winner.sum(axis=(3, 5), keepdims=True)
        return (self.winner / ties * dy.reshape(n, c, h, 1, w, 1)).reshape(n, c, 2 * h, 2 * w).astype(np.float32)

    def emit(self, g, x):
        return g.op("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2])


class Relu(Layer):
    def forward(self, x):
        self.positive = x > 0
        return x * self.positive

    def backward(self, dy):
        return dy * self.positive

    def emit(self, g, x):
        return g.op("Relu", x)


class Flatten(Layer):
    """[n, ...] -> [n, features]."""

    def forward(self, x):
        self.shape = x.shape
        return x.reshape(len(x), -1)

    def backward(self, dy):
        return dy.reshape(self.shape)

    def emit(self, g, x):
        return g.op("Flatten", x, axis=1)


class Embedding(Layer):
    """One trained row per id: [n] integers below `count` -> [n, width]. Ids have no gradient: backward ends here."""

    def __init__(self, count: int, width: int, rng: np.random.Generator):
        self.table = Param(rng.normal(0.0, 0.1, (count, width)))
        self.params = [self.table]

    def forward(self, x):
        self.ids = x
        return self.table.value[x]

    def backward(self, dy):
        self.table.grad = np.zeros_like(self.table.value)
        np.add.at(self.table.grad, self.ids, dy)

    def emit(self, g, x):
        return g.op("Gather", g.weight("embedding.table", self.table.value), x, axis=0)


class Sequential(Layer):
    def __init__(self, *layers: Layer):
        self.layers = layers
        self.params = [param for layer in layers for param in layer.params]

    def forward(self, x):
        for layer in self.layers:
            x = layer.forward(x)
        return x

    def backward(self, dy):
        for layer in reversed(self.layers):
            dy = layer.backward(dy)
        return dy

    def emit(self, g, x):
        for layer in self.layers:
            x = layer.emit(g, x)
        return x


def softmax_cross_entropy(logits: np.ndarray, labels: np.ndarray) -> tuple[float, np.ndarray]:
    """Mean cross-entropy of the softmax of [n, classes] against [n] class numbers, and its gradient by the logits."""
    rows = np.arange(len(labels))
    shifted = logits - logits.max(axis=1, keepdims=True)
    probabilities = np.exp(shifted) / np.exp(shifted).sum(axis=1, keepdims=True)
    loss = -np.log(probabilities[rows, labels] + 1e-12).mean()
    probabilities[rows, labels] -= 1.0
    return float(loss), probabilities / len(labels)


def mean_squared_error(y: np.ndarray, target: np.ndarray) -> tuple[float, np.ndarray]:
    """Mean over all elements, and its gradient by y."""
    error = y - target
    return float((error**2).mean()), 2.0 * error / error.size


class Adam:
    """Kingma & Ba 2015, with the decoupled weight decay of Loshchilov & Hutter 2019."""

    def __init__(self, params: list[Param], rate: float, decay: float = 0.0):
        self.params, self.rate, self.decay, self.steps = params, rate, decay, 0
        self.means = [np.zeros_like(p.value) for p in params]
        self.squares = [np.zeros_like(p.value) for p in params]

    def step(self) -> None:
        self.steps += 1
        rate = self.rate * np.sqrt(1 - 0.999**self.steps) / (1 - 0.9**self.steps)
        for p, mean, square in zip(self.params, self.means, self.squares):
            mean += 0.1 * (p.grad - mean)
            square += 0.001 * (p.grad**2 - square)
            p.value -= np.float32(rate) * mean / (np.sqrt(square) + 1e-8) + np.float32(self.rate * self.decay) * p.value


def batches(rng: np.random.Generator, rows: int, size: int, epochs: int):
    """Yields index arrays of `size` rows, every row once per epoch in a new order."""
    for _ in range(epochs):
        order = rng.permutation(rows)
        for start in range(0, rows, size):
            yield order[start : start + size]
