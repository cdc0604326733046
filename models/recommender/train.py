"""Two towers: a user and an item, each an embedding with a small network on it, meet in a dot product.

The ratings are generated from hidden tastes, so the noise that no model can predict is known. Users have ids below
USERS and items below ITEMS, from 0; any other id is a stranger, and gets the row that was trained on hidden ids: an
average one's score, not an error.
"""

import numpy as np

from export import About, publish
from graph import FP32, INT64, Graph
from nn import Adam, Dense, Embedding, Relu, Sequential, batches, mean_squared_error

USERS, ITEMS, TASTES = 1000, 500, 4
NOISE = 0.4  # standard deviation of a rating around what the user's taste says
STRANGERS = 0.03  # share of training ids that are hidden


def generate(rng: np.random.Generator, ratings: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Users, items and ratings of about 1..5, each [ratings]."""
    user_taste, item_taste = rng.normal(size=(USERS, TASTES)), rng.normal(size=(ITEMS, TASTES))
    generosity, quality = rng.normal(0, 0.3, USERS), rng.normal(0, 0.5, ITEMS)
    user, item = rng.integers(USERS, size=ratings), rng.integers(ITEMS, size=ratings)
    liking = 0.35 * (user_taste[user] * item_taste[item]).sum(axis=1)
    rating = 3.2 + generosity[user] + quality[item] + liking + rng.normal(0, NOISE, ratings)
    return user, item, rating.clip(1, 5).astype(np.float32)


def tower(rng: np.random.Generator, count: int) -> Sequential:
    return Sequential(Embedding(count + 1, 16, rng), Dense(16, 32, rng), Relu(), Dense(32, 16, rng))


class TwoTowers:
    def __init__(self, rng: np.random.Generator, mean: np.float32):
        self.users, self.items, self.mean = tower(rng, USERS), tower(rng, ITEMS), mean
        self.params = self.users.params + self.items.params

    def forward(self, user: np.ndarray, item: np.ndarray) -> np.ndarray:
        self.u, self.i = self.users.forward(user), self.items.forward(item)
        return self.mean + (self.u * self.i).sum(axis=1)

    def backward(self, dscore: np.ndarray) -> None:
        self.users.backward(dscore[:, np.newaxis] * self.i)
        self.items.backward(dscore[:, np.newaxis] * self.u)


def train(user: np.ndarray, item: np.ndarray, rating: np.ndarray) -> TwoTowers:
    rng = np.random.default_rng(1)
    net = TwoTowers(rng, rating.mean())
    adam = Adam(net.params, rate=2e-3, decay=0.02)
    for rows in batches(rng, len(rating), size=512, epochs=25):
        hidden = rng.random((2, len(rows))) < STRANGERS
        users = np.where(hidden[0], USERS, user[rows])
        items = np.where(hidden[1], ITEMS, item[rows])
        _, gradient = mean_squared_error(net.forward(users, items), rating[rows])
        net.backward(gradient)
        adam.step()
    return net


def known_or_stranger(g: Graph, name: str, count: int) -> str:
    """The input `name`, with every id outside 0..count replaced by count: the stranger's row."""
    ids, stranger = g.input(name, INT64), g.weight(f"{name}.stranger", np.int64(count))
    negative = g.op("Less", ids, g.weight("zero", np.int64(0)))
    strange = g.op("Or", negative, g.op("GreaterOrEqual", ids, stranger))
    return g.op("Where", strange, stranger, ids)


def graph(net: TwoTowers) -> Graph:
    g = Graph("recommender")
    user = net.users.emit(g, known_or_stranger(g, "user", USERS))
    item = net.items.emit(g, known_or_stranger(g, "item", ITEMS))
    match = g.op("ReduceSum", g.op("Mul", user, item), g.weight("axis", np.array([1])), keepdims=0)
    g.op("Add", match, g.weight("mean", net.mean), to="score")
    g.output("score", FP32)
    return g


def main() -> None:
    user, item, rating = generate(np.random.default_rng(0), 60_000)
    held = 6_000
    net = train(user[held:], item[held:], rating[held:])

    def rmse(score: np.ndarray) -> float:
        return float(np.sqrt(((score - rating[:held]) ** 2).mean()))

    about = About(
        use="recommendation: two towers with embeddings",
        data="generated: hidden tastes",
        metric=f"RMSE {rmse(net.forward(user[:held], item[:held])):.2f} "
        f"(always the mean: {rmse(net.mean):.2f}; the data's noise: {NOISE:.2f})",
    )
    example = {"user": np.array([7, 7, 999, 5000]), "item": np.array([3, 141, 499, 3])}
    publish(__file__, graph(net).model(), about, example)


if __name__ == "__main__":
    main()
