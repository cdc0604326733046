"""Wine: one network, three heads. From eleven cheap measurements it names the cultivar, says whether it is sure, and
estimates two measurements that are dearer to make: alcohol and proline."""

import numpy as np
from sklearn.datasets import load_wine
from sklearn.model_selection import train_test_split

from export import About, publish
from graph import BOOL, FP32, INT64, Graph
from nn import Adam, Dense, Relu, Sequential, batches, mean_squared_error, softmax_cross_entropy

ESTIMATED = ["alcohol", "proline"]  # percent by volume, mg/l
SURE = np.float32(0.9)  # the probability from which the model calls itself sure


class Net:
    """A trunk, and on it a head that classifies and a head that estimates (in units of standard deviation)."""

    def __init__(self, rng: np.random.Generator, inputs: int):
        self.trunk = Sequential(Dense(inputs, 32, rng), Relu())
        self.cultivar = Dense(32, 3, rng)
        self.estimates = Dense(32, len(ESTIMATED), rng)
        self.params = self.trunk.params + self.cultivar.params + self.estimates.params

    def forward(self, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        hidden = self.trunk.forward(x)
        return self.cultivar.forward(hidden), self.estimates.forward(hidden)

    def backward(self, dlogits: np.ndarray, destimates: np.ndarray) -> None:
        self.trunk.backward(self.cultivar.backward(dlogits) + self.estimates.backward(destimates))


class Scale:
    """Mean and standard deviation of each column of the training rows."""

    def __init__(self, x: np.ndarray):
        self.mean, self.std = x.mean(axis=0), x.std(axis=0)

    def apply(self, x: np.ndarray) -> np.ndarray:
        return (x - self.mean) / self.std


def train(x: np.ndarray, labels: np.ndarray, estimated: np.ndarray) -> Net:
    rng = np.random.default_rng(0)
    net = Net(rng, x.shape[1])
    adam = Adam(net.params, rate=3e-3, decay=0.1)
    for rows in batches(rng, len(x), size=32, epochs=200):
        logits, estimates = net.forward(x[rows])
        _, dlogits = softmax_cross_entropy(logits, labels[rows])
        _, destimates = mean_squared_error(estimates, estimated[rows])
        net.backward(dlogits, destimates)
        adam.step()
    return net


def graph(net: Net, inputs: Scale, outputs: Scale) -> Graph:
    g = Graph("wine")
    x = g.input("features", FP32, len(inputs.mean))
    x = g.op("Sub", x, g.weight("features.mean", inputs.mean))
    x = g.op("Div", x, g.weight("features.std", inputs.std))
    hidden = net.trunk.emit(g, x)

    logits = net.cultivar.emit(g, hidden)
    probabilities = g.op("Softmax", logits, axis=1, to="probabilities")
    g.op("ArgMax", logits, axis=1, keepdims=0, to="cultivar")
    top = g.op("ReduceMax", probabilities, axes=[1], keepdims=0)
    g.op("GreaterOrEqual", top, g.weight("sure.threshold", SURE), to="sure")

    estimates = g.op("Mul", net.estimates.emit(g, hidden), g.weight("estimates.std", outputs.std))
    g.op("Add", estimates, g.weight("estimates.mean", outputs.mean), to="estimates")

    g.output("cultivar", INT64)
    g.output("probabilities", FP32, 3)
    g.output("sure", BOOL)
    g.output("estimates", FP32, len(ESTIMATED))
    return g


def main() -> None:
    wine = load_wine()
    table = wine.data.astype(np.float32)
    wanted = np.isin(wine.feature_names, ESTIMATED)
    x, held_x, y, held_y, labels, held_labels = train_test_split(
        table[:, ~wanted], table[:, wanted], wine.target, test_size=0.3, stratify=wine.target, random_state=0
    )
    inputs, outputs = Scale(x), Scale(y)
    net = train(inputs.apply(x), labels, outputs.apply(y))

    logits, estimates = net.forward(inputs.apply(held_x))
    accuracy = (logits.argmax(axis=1) == held_labels).mean()
    errors = np.abs(estimates * outputs.std + outputs.mean - held_y).mean(axis=0)
    plain = np.abs(outputs.mean - held_y).mean(axis=0)
    about = About(
        use="several outputs from one network",
        data="bundled: scikit-learn wine",
        metric=f"accuracy {accuracy:.1%}; mean error alcohol {errors[0]:.2f} % and proline {errors[1]:.0f} mg/l "
        f"(always the mean: {plain[0]:.2f}, {plain[1]:.0f})",
    )
    publish(__file__, graph(net, inputs, outputs).model(), about, {"features": held_x[:2]})


if __name__ == "__main__":
    main()
