"""The ONNX standard's node tests, as the `onnx` package makes them in memory, and which of them ONNX Runtime passes here."""

import functools
import warnings
from dataclasses import dataclass

import numpy as np
import onnx
import onnxruntime
from onnx.backend.test.loader import load_model_tests
from onnx.backend.test.runner import Runner, _normalize_tensor

# The newest file format and operator set that this ONNX Runtime takes. The standard's newest cases are stamped with newer
# ones, although most of their operators have not changed since: they are stamped with these, in this process and for the
# server alike. Where an operator did change, the run in this process fails, and the case does not count.
IR_VERSION_MAX = 13
OPSET_MAX = 26
# ONNX Runtime's Python interface takes these only as raw elements of a named type.
RAW_TYPES_FROM = onnx.TensorProto.BFLOAT16

Arrays = dict[str, np.ndarray | list[np.ndarray]]


@dataclass(frozen=True)
class Case:
    """One node with its inputs and the outputs that the standard asks for."""

    name: str
    model: bytes
    data_sets: list[tuple[Arrays, Arrays]]
    rtol: float
    atol: float
    raw_types: bool
    """Whether an input or output has a type that numpy does not have."""
    input_types: dict[str, int]
    """ONNX's number of each input's element type."""

    def __str__(self) -> str:
        return self.name

    def check(self, expected: Arrays, found: Arrays) -> None:
        """The standard's own comparison: count, shapes and types exactly, floats within its tolerances."""
        assert list(found) == list(expected)
        for name, array in found.items():
            if isinstance(array, np.ndarray):
                assert array.dtype == expected[name].dtype, f"{name} is {array.dtype}, not {expected[name].dtype}"
        Runner.assert_similar_outputs([*expected.values()], [*found.values()], self.rtol, self.atol)


@functools.cache
def passing() -> list[Case]:
    """The cases that ONNX Runtime passes in this process."""
    onnxruntime.set_default_logger_severity(4)  # it writes a line for each case that it does not take
    return [case for case in every() if passes(case)]


@functools.cache
def every() -> list[Case]:
    """All cases of the standard."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # overflows and divisions by zero are what some cases are about
        made = load_model_tests(kind="node")
    return [case_of(test) for test in made]


def case_of(test) -> Case:
    model = test.model
    model.ir_version = min(model.ir_version, IR_VERSION_MAX)
    for opset in model.opset_import:
        if opset.domain in ("", "ai.onnx"):
            opset.version = min(opset.version, OPSET_MAX)
    inputs, outputs = ([*model.graph.input], [*model.graph.output])
    types = {value.name: value.type.tensor_type.elem_type for value in inputs}
    raw = any(value.type.tensor_type.elem_type >= RAW_TYPES_FROM for value in inputs + outputs)
    data_sets = [(named(inputs, given), named(outputs, expected)) for given, expected in test.data_sets]
    return Case(test.name, model.SerializeToString(), data_sets, test.rtol, test.atol, raw, types)


def named(values, arrays) -> Arrays:
    assert len(values) == len(arrays)
    return {value.name: plain(array) for value, array in zip(values, arrays)}


def plain(value):
    """An array, also where the case has a numpy scalar, or a list of arrays for a sequence."""
    value = _normalize_tensor(value)
    if isinstance(value, np.generic):
        return np.asarray(value)
    if isinstance(value, np.ndarray) and value.dtype.kind in "US":
        return value.astype(np.object_)
    return value


def passes(case: Case) -> bool:
    """Whether ONNX Runtime takes the model and answers as the standard asks. Whatever goes wrong is its own affair."""
    try:
        session = open_session(case.model)
        for inputs, expected in case.data_sets:
            case.check(expected, run(case, session, inputs, expected))
    except Exception:
        return False
    return True


def open_session(model: bytes) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def run(case: Case, session: onnxruntime.InferenceSession, inputs: Arrays, expected: Arrays) -> Arrays:
    names = [output.name for output in session.get_outputs()]
    if not case.raw_types:
        return dict(zip(names, session.run(names, inputs)))
    values = {name: ort_value(array, case.input_types[name]) for name, array in inputs.items()}
    found = session.run_with_ort_values(names, values)
    # Raw elements come back as whole numbers of their size.
    return {name: value.numpy().view(expected[name].dtype) for name, value in zip(names, found)}


def ort_value(array: np.ndarray, element_type: int) -> onnxruntime.OrtValue:
    array = np.ascontiguousarray(array).reshape(array.shape)  # ascontiguousarray makes a scalar a vector
    if element_type >= RAW_TYPES_FROM:
        return onnxruntime.OrtValue.ortvalue_from_numpy_with_onnx_type(array, element_type)
    return onnxruntime.OrtValue.ortvalue_from_numpy(array)
