"""Handwritten digits: a small convolutional network on scikit-learn's 8 x 8 scans."""

import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from export import About, publish
from graph import FP32, INT64, Graph
from nn import Adam, Conv2d, Dense, Flatten, MaxPool, Relu, Sequential, batches, softmax_cross_entropy

WHITE = np.float32(16)  # the scans' pixels go from 0 to 16


def train(images: np.ndarray, labels: np.ndarray) -> Sequential:
    rng = np.random.default_rng(0)
    net = Sequential(
        Conv2d(1, 16, 3, rng), Relu(),
        Conv2d(16, 32, 3, rng), Relu(), MaxPool(), Flatten(),
        Dense(32 * 4 * 4, 64, rng), Relu(),
        Dense(64, 10, rng),
    )  # fmt: skip
    adam = Adam(net.params, rate=1e-3, decay=0.1)
    for rows in batches(rng, len(images), size=64, epochs=20):
        _, gradient = softmax_cross_entropy(net.forward(images[rows] / WHITE), labels[rows])
        net.backward(gradient)
        adam.step()
    return net


def graph(net: Sequential) -> Graph:
    g = Graph("digits")
    image = g.input("image", FP32, 1, 8, 8)
    logits = net.emit(g, g.op("Div", image, g.weight("white", WHITE)))
    g.op("Softmax", logits, axis=1, to="probabilities")
    g.op("ArgMax", logits, axis=1, keepdims=0, to="label")
    g.output("label", INT64)
    g.output("probabilities", FP32, 10)
    return g


def main() -> None:
    scans = load_digits()
    images = scans.images[:, np.newaxis].astype(np.float32)
    images, held_images, labels, held_labels = train_test_split(
        images, scans.target, test_size=0.25, stratify=scans.target, random_state=0
    )
    net = train(images, labels)
    accuracy = (net.forward(held_images / WHITE).argmax(axis=1) == held_labels).mean()
    about = About(
        use="image classification (CNN)",
        data="bundled: scikit-learn digits",
        metric=f"accuracy {accuracy:.1%}",
    )
    print("example's true labels:", held_labels[:2])
    publish(__file__, graph(net).model(), about, {"image": held_images[:2]})


if __name__ == "__main__":
    main()
