"""A plain 512-1024-1024-10 network: enough arithmetic per row for benchmarks to show what batching is worth.

Its task is generated: each class is a mixture of four Gaussian clouds in 512 dimensions.
"""

import numpy as np

from export import About, publish
from graph import FP32, Graph
from nn import Adam, Dense, Relu, Sequential, batches, softmax_cross_entropy

INPUTS, HIDDEN, CLASSES, CLOUDS = 512, 1024, 10, 4


def generate(rng: np.random.Generator, centres: np.ndarray, rows: int) -> tuple[np.ndarray, np.ndarray]:
    """Points FP32 [rows, 512] around the centres [40, 512], and their classes [rows]."""
    clouds = rng.integers(len(centres), size=rows)
    points = centres[clouds] + rng.normal(size=(rows, INPUTS))
    return points.astype(np.float32), clouds % CLASSES


def train(rng: np.random.Generator, x: np.ndarray, labels: np.ndarray) -> Sequential:
    net = Sequential(
        Dense(INPUTS, HIDDEN, rng), Relu(),
        Dense(HIDDEN, HIDDEN, rng), Relu(),
        Dense(HIDDEN, CLASSES, rng),
    )  # fmt: skip
    adam = Adam(net.params, rate=1e-3, decay=0.01)
    for rows in batches(rng, len(x), size=256, epochs=3):
        _, gradient = softmax_cross_entropy(net.forward(x[rows]), labels[rows])
        net.backward(gradient)
        adam.step()
    return net


def graph(net: Sequential) -> Graph:
    g = Graph("mlp")
    logits = net.emit(g, g.input("x", FP32, INPUTS))
    g.op("Softmax", logits, axis=1, to="y")
    g.output("y", FP32, CLASSES)
    return g


def main() -> None:
    rng = np.random.default_rng(0)
    centres = rng.normal(0.0, 0.25, (CLASSES * CLOUDS, INPUTS))
    net = train(rng, *generate(rng, centres, 20_000))
    held_x, held_labels = generate(rng, centres, 2_000)
    accuracy = (net.forward(held_x).argmax(axis=1) == held_labels).mean()
    about = About(
        use="dense arithmetic for benchmarks",
        data="generated: Gaussian clouds",
        metric=f"accuracy {accuracy:.1%}",
    )
    publish(__file__, graph(net).model(), about, {"x": held_x[:1].round(3)})


if __name__ == "__main__":
    main()
