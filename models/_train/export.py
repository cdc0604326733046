"""From a trained model to files in the repository: model.onnx, example.json and expected.json."""

from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import onnx
import skl2onnx

import v2


@dataclass
class About:
    """What a model says of itself: kept in the ONNX file's metadata, from which the README's table is made."""

    use: str
    data: str
    metric: str


def publish(script: str, model: onnx.ModelProto, about: About, example: dict[str, np.ndarray], version: int = 1, suffix: str = "") -> None:
    """Writes <model>/<version>/model.onnx beside `script`, and the example with ONNX Runtime's answer to it.

    `suffix` is for older versions: their answer goes to expected<suffix>.json, since a request that names no version
    gets the newest one's, which is in expected.json.
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
    v2.write(home / f"expected{suffix}.json", v2.tensors(v2.run(path, example)))
    print(f"{home.name} version {version}: {about.metric} ({path.stat().st_size / 1e3:.0f} kB)")


def from_sklearn(estimator, inputs: dict[str, str], outputs: dict[str, list[int]], options: dict | None = None) -> onnx.ModelProto:
    """Converts a fitted scikit-learn estimator.

    `inputs` maps names to kinds: "FP32:4" is FP32 [batch, 4], "BYTES:1" is strings [batch, 1]. `outputs` names what
    the converter made, in its order, with the dimensions after batch. Class probabilities come out as one tensor
    [batch, classes]: the converter's default, a list of maps, has no place in the V2 protocol.
    """
    types = {"FP32": skl2onnx.common.data_types.FloatTensorType, "BYTES": skl2onnx.common.data_types.StringTensorType}
    kinds = [(name, *kind.split(":")) for name, kind in inputs.items()]
    model = skl2onnx.convert_sklearn(
        estimator,
        initial_types=[(name, types[datatype](["batch", int(width)])) for name, datatype, width in kinds],
        target_opset={"": 17, "ai.onnx.ml": 3},
        options=options,
    )
    rename(model, {old.name: new for old, new in zip(model.graph.output, outputs)})
    for value in model.graph.output:
        shape = value.type.tensor_type.shape
        del shape.dim[:]
        shape.dim.add().dim_param = "batch"
        for size in outputs[value.name]:
            shape.dim.add().dim_value = size
    return model


def rename(model: onnx.ModelProto, names: dict[str, str]) -> None:
    """Renames values wherever they stand in the graph."""
    for value in model.graph.output:
        value.name = names.get(value.name, value.name)
    for node in model.graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]
