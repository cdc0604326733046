"""What stands in the model repository: every version of every model, and what its ONNX file says of itself."""

from dataclasses import dataclass
from pathlib import Path

import onnx

from v2 import DATATYPES

REPOSITORY = Path(__file__).resolve().parent.parent
STANDARD = ""  # ONNX's own operators; other domains are extensions


@dataclass
class Version:
    home: Path  # the model's directory
    number: int
    latest: bool
    model: onnx.ModelProto

    @property
    def title(self) -> str:
        return f"{self.home.name} version {self.number}"

    @property
    def path(self) -> Path:
        return self.home / str(self.number) / "model.onnx"

    @property
    def expected(self) -> Path:
        """The answer to example.json: see export.publish."""
        return self.home / ("expected.json" if self.latest else f"expected-{self.number}.json")

    @property
    def about(self) -> dict[str, str]:
        return {entry.key: entry.value for entry in self.model.metadata_props}

    def foreign_operators(self) -> set[str]:
        """The operators that are not in ONNX's standard domain, as domain:operator."""
        return {f"{node.domain}:{node.op_type}" for node in self.model.graph.node if node.domain != STANDARD}


def versions() -> list[Version]:
    found = []
    for script in sorted(REPOSITORY.glob("*/train.py")):
        numbers = sorted(int(entry.name) for entry in script.parent.iterdir() if entry.name.isdigit())
        for number in numbers:
            model = onnx.load(script.parent / str(number) / "model.onnx")
            found.append(Version(script.parent, number, number == numbers[-1], model))
    return found


def dims(value: onnx.ValueInfoProto) -> list[str]:
    return [dim.dim_param or str(dim.dim_value) for dim in value.type.tensor_type.shape.dim]


def signature(value: onnx.ValueInfoProto) -> str:
    """An input or output in words, such as "image FP32 [batch, 1, 8, 8]"."""
    array = onnx.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)
    return f"{value.name} {DATATYPES[str(array)]} [{', '.join(dims(value))}]"
