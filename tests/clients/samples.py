"""The sample models: what they take, random inputs for them, and the answers of ONNX Runtime in this process."""

import functools
import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime

from server import ROOT

MODELS = ROOT / "models"
DATATYPES = {"tensor(float)": "FP32", "tensor(int64)": "INT64", "tensor(bool)": "BOOL", "tensor(string)": "BYTES"}
ARRAYS = {"FP32": np.float32, "INT64": np.int64, "BOOL": np.bool_, "BYTES": np.object_}
# Words that no model was trained on, and that every encoding on the way has to get right.
STRANGERS = ["", "größe", "🙂", '"quoted" \\ and/or', "tab\tand\nline", "\u0001", "x" * 300]

Arrays = dict[str, np.ndarray]


@dataclass(frozen=True)
class Tensor:
    """An input or output as the V2 protocol describes it; -1 is any size."""

    name: str
    datatype: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Sample:
    """One version of a sample model."""

    name: str
    version: str

    def __str__(self) -> str:
        return f"{self.name}-{self.version}"

    @property
    def home(self) -> Path:
        return MODELS / self.name

    @property
    def expected_file(self) -> Path:
        """What example.json is answered with: `expected.json`, or that of an older version."""
        own = self.home / f"expected-{self.version}.json"
        return own if own.exists() else self.home / "expected.json"

    def example(self) -> Arrays:
        return arrays(json.loads((self.home / "example.json").read_text())["inputs"])

    def expected(self) -> Arrays:
        return arrays(json.loads(self.expected_file.read_text()))

    @property
    def inputs(self) -> list[Tensor]:
        return [tensor(node) for node in session(self).get_inputs()]

    @property
    def outputs(self) -> list[Tensor]:
        return [tensor(node) for node in session(self).get_outputs()]

    def answer(self, inputs: Arrays) -> Arrays:
        """What ONNX Runtime answers, every output in the model's order."""
        names = [output.name for output in self.outputs]
        return dict(zip(names, session(self).run(names, inputs)))

    def random(self, rows: int, seed: int = 0) -> Arrays:
        """Rows as different from each other as the model's example allows; the same for the same arguments."""
        rng = np.random.default_rng([rows, seed, *map(ord, self.name)])
        return {name: random_like(example, rows, rng) for name, example in self.example().items()}


def discover() -> list[Sample]:
    """Every version of every model in the repository, oldest first."""
    files = MODELS.glob("[!_.]*/[0-9]*/model.onnx")
    found = [(file.parts[-3], int(file.parts[-2])) for file in files]
    return [Sample(name, str(version)) for name, version in sorted(found)]


SAMPLES = discover()
NEWEST = list({sample.name: sample for sample in SAMPLES}.values())
assert len(NEWEST) >= 10, f"only {len(NEWEST)} models in {MODELS}"


def sample(name: str) -> Sample:
    """The newest version of this model."""
    return next(sample for sample in NEWEST if sample.name == name)


def copy_repository(target: Path) -> Path:
    """The sample models with every version of them to be served."""
    for each in NEWEST:
        shutil.copytree(each.home, target / each.name)
        (target / each.name / "model.toml").write_text('versions = "all"\n')
    return target


@functools.cache
def session(sample: Sample) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    path = sample.home / sample.version / "model.onnx"
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def tensor(node: onnxruntime.NodeArg) -> Tensor:
    shape = tuple(size if isinstance(size, int) else -1 for size in node.shape)
    return Tensor(node.name, DATATYPES[node.type], shape)


def datatype(array: np.ndarray) -> str:
    return next(name for name, dtype in ARRAYS.items() if array.dtype == dtype)


def arrays(tensors: list[dict]) -> Arrays:
    """V2 JSON tensors as arrays, in their order."""
    return {t["name"]: np.array(t["data"], ARRAYS[t["datatype"]]).reshape(t["shape"]) for t in tensors}


def tensors(inputs: Arrays) -> list[dict]:
    """Arrays as V2 JSON tensors."""
    return [
        {"name": name, "datatype": datatype(array), "shape": list(array.shape), "data": array.ravel().tolist()}
        for name, array in inputs.items()
    ]


def random_like(example: np.ndarray, rows: int, rng: np.random.Generator) -> np.ndarray:
    shape = (rows, *example.shape[1:])
    if example.dtype == np.object_:
        return random_strings(example.ravel().tolist(), shape, rng)
    low, high = example.min(axis=0), example.max(axis=0)
    if example.dtype == np.int64:
        return rng.integers(0, high * 2, shape)
    margin = 0.25 * (high - low)
    return rng.uniform(low - margin, high + margin, shape).astype(np.float32)


def random_strings(examples: list[str], shape: tuple[int, ...], rng: np.random.Generator) -> np.ndarray:
    """Sentences out of the examples' words where those are sentences, one word each where they are words."""
    words = " ".join(examples).split()
    sentences = any(" " in example for example in examples)

    def one() -> str:
        some = rng.choice(words, rng.integers(1, 12) if sentences else 1).tolist()
        if rng.random() < 0.2:
            some[-1] = STRANGERS[rng.integers(len(STRANGERS))]
        return " ".join(some)

    return np.array([one() for _ in range(np.prod(shape))], np.object_).reshape(shape)


def assert_same(found: Arrays, expected: Arrays) -> None:
    """Same outputs in the same order; floats may differ in their last digits, everything else must be equal."""
    assert list(found) == list(expected)
    for name, array in expected.items():
        assert found[name].dtype == array.dtype, name
        assert found[name].shape == array.shape, name
        if array.dtype == np.float32:
            np.testing.assert_allclose(found[name], array, rtol=1e-4, atol=1e-5, err_msg=name)
        else:
            np.testing.assert_array_equal(text(found[name]), array, err_msg=name)


def text(array: np.ndarray) -> np.ndarray:
    """Binary tensors hand strings out as bytes, JSON ones as text."""
    if array.dtype != np.object_:
        return array
    decoded = [value.decode() if isinstance(value, bytes) else value for value in array.ravel()]
    return np.array(decoded, np.object_).reshape(array.shape)
