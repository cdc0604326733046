"""From a trained model to files in the repository: model.onnx, example.json and expected.json."""

from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import onnx
import skl2onnx
from skl2onnx.common.data_types import FloatTensorType, StringTensorType
from sklearn.base import BaseEstimator, is_classifier

import v2

OPSETS = {"": 17, "ai.onnx.ml": 3}  # of models converted from scikit-learn


@dataclass
class About:
    """What a model says of itself: kept in the ONNX file's metadata, from which the README's table is made."""

    use: str
    data: str
    metric: str


def publish(
    script: str,
    model: onnx.ModelProto,
    about: About,
    example: dict[str, np.ndarray],
    version: int = 1,
    latest: bool = True,
) -> None:
    """Writes <model>/<version>/model.onnx beside `script`, example.json, and ONNX Runtime's answer to it.

    The answer of the latest version, which a request that names none gets, is in expected.json; an older version's is
    in expected-<version>.json.
    """
    home = Path(script).resolve().parent
    onnx.helper.set_model_props(model, asdict(about))
    model.producer_name, model.producer_version, model.doc_string = "tensorgate sample models", "", about.use
    model.graph.name, model.model_version = home.name, version
    onnx.checker.check_model(model, full_check=True)

    path = home / str(version) / "model.onnx"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(model.SerializeToString(deterministic=True))
    v2.write(home / "example.json", {"id": f"{home.name}-example", "inputs": v2.tensors(example)})
    answer = "expected.json" if latest else f"expected-{version}.json"
    v2.write(home / answer, v2.tensors(v2.run(path, example)))
    print(f"{home.name} version {version}: {about.metric} ({path.stat().st_size / 1e3:.0f} kB)")


def from_sklearn(estimator: BaseEstimator, inputs: dict[str, str], outputs: dict[str, list[int]]) -> onnx.ModelProto:
    """Converts a fitted scikit-learn estimator.

    `inputs` maps names to kinds: "FP32:4" is FP32 [batch, 4], "BYTES:1" is strings [batch, 1]. `outputs` names what
    the converter makes, in its order, and gives the dimensions after batch. Class probabilities come out as one tensor
    [batch, classes]: the converter's default, a list of maps, has no place in the V2 protocol.
    """
    types = {"FP32": FloatTensorType, "BYTES": StringTensorType}
    kinds = [(name, *kind.split(":")) for name, kind in inputs.items()]
    model = skl2onnx.convert_sklearn(
        estimator,
        initial_types=[(name, types[datatype]([None, int(width)])) for name, datatype, width in kinds],
        target_opset=OPSETS,
        options={"zipmap": False} if is_classifier(estimator) else None,
    )
    # The converter declares the oldest opsets that suffice, some twice; its nodes are right in those it was asked for.
    del model.opset_import[:]
    model.opset_import.extend(onnx.helper.make_opsetid(*opset) for opset in OPSETS.items())
    rename(model, {old.name: new for old, new in zip(model.graph.output, outputs, strict=True)})
    for value in model.graph.input:
        set_shape(value, [int(inputs[value.name].split(":")[1])])
    for value in model.graph.output:
        set_shape(value, outputs[value.name])
    return model


def rename(model: onnx.ModelProto, names: dict[str, str]) -> None:
    """Renames values wherever they stand in the graph."""
    for value in model.graph.output:
        value.name = names.get(value.name, value.name)
    for node in model.graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]


def set_shape(value: onnx.ValueInfoProto, dims: list[int]) -> None:
    """Declares the shape [batch, *dims]."""
    shape = onnx.TensorShapeProto()
    shape.dim.add().dim_param = "batch"
    for size in dims:
        shape.dim.add().dim_value = size
    value.type.tensor_type.shape.CopyFrom(shape)
