"""Carbon dioxide over Mauna Loa: from 48 months to the next 12.

A network reads the window relative to its own mean and corrects a simple guess, last year again. Both the mean and
that guess are computed inside the graph, so the model takes and gives plain ppm.
"""

import numpy as np
import statsmodels.api

from export import About, publish
from graph import FP32, Graph
from nn import Adam, Dense, Relu, Sequential, batches, mean_squared_error

WINDOW, HORIZON = 48, 12  # months
TRAIN_UNTIL = "1985-12"  # every later month is held out
SCALE = np.float32(5)  # ppm, about the spread of a window


def load() -> tuple[np.ndarray, int]:
    """Monthly means in ppm, gaps interpolated, and how many of them are for training."""
    weekly = statsmodels.api.datasets.co2.load_pandas().data["co2"]
    monthly = weekly.resample("MS").mean().interpolate()
    return monthly.to_numpy(np.float32), len(monthly[:TRAIN_UNTIL])


def windows(series: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Every [48] window of the series, and the [12] months after it."""
    spans = np.lib.stride_tricks.sliding_window_view(series, WINDOW + HORIZON)
    return spans[:, :WINDOW], spans[:, WINDOW:]


def last_year(window: np.ndarray) -> np.ndarray:
    """The seasonal naive forecast."""
    return window[:, -HORIZON:]


def centred(window: np.ndarray) -> np.ndarray:
    return (window - window.mean(axis=1, keepdims=True)) / SCALE


def train(window: np.ndarray, future: np.ndarray) -> Sequential:
    rng = np.random.default_rng(0)
    net = Sequential(Dense(WINDOW, 32, rng), Relu(), Dense(32, HORIZON, rng))
    adam = Adam(net.params, rate=1e-3, decay=0.1)
    x, correction = centred(window), (future - last_year(window)) / SCALE
    for rows in batches(rng, len(x), size=32, epochs=400):
        _, gradient = mean_squared_error(net.forward(x[rows]), correction[rows])
        net.backward(gradient)
        adam.step()
    return net


def graph(net: Sequential) -> Graph:
    g = Graph("forecast")
    window = g.input("window", FP32, WINDOW)
    scale = g.weight("scale", SCALE)
    mean = g.op("ReduceMean", window, axes=[1], keepdims=1)
    correction = g.op("Mul", net.emit(g, g.op("Div", g.op("Sub", window, mean), scale)), scale)
    span = [("from", WINDOW - HORIZON), ("to", WINDOW), ("axis", 1)]
    year = g.op("Slice", window, *(g.weight(name, np.array([value])) for name, value in span))
    g.op("Add", year, correction, to="forecast")
    g.output("forecast", FP32, HORIZON)
    return g


def main() -> None:
    series, months = load()
    net = train(*windows(series[:months]))
    window, future = windows(series[months:])

    def error(forecast: np.ndarray) -> float:
        return float(np.abs(forecast - future).mean())

    growth = (window[:, -HORIZON:] - window[:, -2 * HORIZON : -HORIZON]).mean(axis=1, keepdims=True)
    ours = error(last_year(window) + net.forward(centred(window)) * SCALE)
    naive, drift = error(last_year(window)), error(last_year(window) + growth)
    about = About(
        use="time series: window in, horizon out",
        data="bundled: statsmodels co2",
        metric=f"mean error {ours:.2f} ppm (last year again: {naive:.2f}; with last year's growth: {drift:.2f})",
    )
    publish(__file__, graph(net).model(), about, {"window": window[-1:].round(2)})


if __name__ == "__main__":
    main()
