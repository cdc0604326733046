"""A builder for ONNX graphs: collects nodes and weights, and gives every value a readable name."""

from collections import Counter

import numpy as np
from onnx import ModelProto, TensorProto, helper, numpy_helper

FP32, INT64, BOOL, STRING = TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL, TensorProto.STRING
IR_VERSION = 8


class Graph:
    """Values are named by strings. `weight` and `op` return the name of what they add, so calls nest."""

    def __init__(self, name: str):
        self.name = name
        self.nodes, self.inputs, self.outputs, self.weights = [], [], [], []
        self.used = Counter()

    def input(self, name: str, datatype: int, *dims: int) -> str:
        """Declares an input of shape [batch, *dims]."""
        self.inputs.append(helper.make_tensor_value_info(name, datatype, ["batch", *dims]))
        return name

    def output(self, name: str, datatype: int, *dims: int) -> None:
        """Declares the value called `name` an output of shape [batch, *dims]."""
        self.outputs.append(helper.make_tensor_value_info(name, datatype, ["batch", *dims]))

    def weight(self, name: str, value: np.ndarray) -> str:
        """Adds a constant, stored inside the model."""
        name = self.unique(name)
        self.weights.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def op(self, kind: str, *inputs: str, to: str | None = None, also: tuple[str, ...] = (), **attributes) -> str:
        """Adds a node; `to` names its result, which is otherwise named after its kind, and `also` any further ones."""
        result = to or self.unique(kind.lower())
        node = helper.make_node(kind, list(inputs), [result, *also], name=f"{kind}:{result}", **attributes)
        self.nodes.append(node)
        return result

    def unique(self, name: str) -> str:
        """`name` at its first use, then name_2, name_3, ..."""
        self.used[name] += 1
        return name if self.used[name] == 1 else f"{name}_{self.used[name]}"

    def model(self, opset: int = 17, ir_version: int = IR_VERSION) -> ModelProto:
        graph = helper.make_graph(self.nodes, self.name, self.inputs, self.outputs, self.weights)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=ir_version)
