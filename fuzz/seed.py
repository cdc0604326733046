"""Writes what each fuzz target starts from into a folder: the golden requests, the sample models, and one text of each
construct that neither has. Usage: seed.py FOLDER"""

import gzip
import json
import pathlib
import struct
import sys
import zlib

ROOT = pathlib.Path(__file__).resolve().parent.parent
out = pathlib.Path(sys.argv[1])


def write(target, name, data):
    folder = out / target
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(data.encode() if isinstance(data, str) else data)


# Protobuf's wire format: a key is the field's number and its kind.
def varint(number):
    number &= 2**64 - 1
    data = b""
    while number > 127:
        data += bytes([number & 127 | 128])
        number >>= 7
    return data + bytes([number])


def field(number, value):
    if isinstance(value, bool) or isinstance(value, int):
        return varint(number << 3) + varint(int(value))
    value = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(value)) + value


# Field numbers of InferTensorContents, and how their elements are packed.
CONTENTS = {
    "bool_contents": (1, varint),
    "int_contents": (2, varint),
    "int64_contents": (3, varint),
    "uint_contents": (4, varint),
    "uint64_contents": (5, varint),
    "fp32_contents": (6, lambda value: struct.pack("<f", value)),
    "fp64_contents": (7, lambda value: struct.pack("<d", value)),
}


def contents(given):
    data = b""
    for name, values in given.items():
        if name == "bytes_contents":
            data += b"".join(field(8, value) for value in values)
        else:
            number, pack = CONTENTS[name]
            data += field(number, b"".join(pack(value) for value in values))
    return data


# Field numbers of InferParameter.
PARAMETERS = {"bool_param": 1, "int64_param": 2, "string_param": 3}


def parameter(name, given):
    ((kind, value),) = given.items()
    return field(1, name) + field(2, field(PARAMETERS[kind], value))


def message(given):
    data = field(1, given["model_name"]) + field(2, given.get("model_version", ""))
    for tensor in given["inputs"]:
        inner = field(1, tensor["name"]) + field(2, tensor["datatype"])
        inner += field(3, b"".join(varint(dim) for dim in tensor["shape"]))
        inner += b"".join(field(4, parameter(*entry)) for entry in tensor.get("parameters", {}).items())
        if tensor.get("contents") is not None:
            inner += field(5, contents(tensor["contents"]))
        data += field(5, inner)
    data += b"".join(field(6, field(1, output["name"])) for output in given.get("outputs", []))
    return data + b"".join(field(7, bytes.fromhex(raw)) for raw in given.get("raw_input_contents", []))


def golden():
    for path in sorted((ROOT / "tests/golden").glob("*.json")):
        case, name = json.loads(path.read_text()), path.stem
        http = case.get("http")
        if http:
            text = json.dumps(http["body"]) if http.get("body") is not None else http.get("text") or ""
            text, tail = text.encode(), bytes.fromhex(http.get("tail") or "")
            headers = "".join(f"{key}: {value}\n" for key, value in http.get("headers", {}).items())
            write("head", name, f"POST {http['path']} HTTP/1.1\nhost: a\n{headers}\n".encode())
            write("json", name, text)
            write("binary", name, struct.pack("<H", len(text)) + text + tail)
            write("coding", name, b"\0" + gzip.compress(text + tail))
            write("coding", name + "_deflate", b"\1" + zlib.compress(text + tail))
            write("v1", name, b"\2" + text)
        if case.get("grpc"):
            write("proto", name, message(case["grpc"]))


DATATYPES = {"BOOL": "true,false", "FP32": "1.5,-2e-3", "BYTES": '"a","\\u00e9\\ud83d\\ude00"'}


def requests():
    for datatype in "BOOL UINT8 UINT16 UINT32 UINT64 INT8 INT16 INT32 INT64 FP16 BF16 FP32 FP64 BYTES".split():
        data = DATATYPES.get(datatype, "1,2")
        text = f'{{"id":"1","inputs":[{{"name":"x","shape":[2],"datatype":"{datatype}","data":[{data}]}}]}}'
        write("json", datatype, text)
        write("json", datatype + "_nested", text.replace(data, data.replace(",", "],[")).replace("[[", "[[["))
    write("json", "everything", '{"parameters":{"a":1,"b":-1.5,"c":"d","e":true,"binary_data_output":true},"model_name":"m",'
          '"inputs":[{"parameters":{"p":18446744073709551615},"data":["NaN",Infinity,-Infinity],"shape":[3],'
          '"datatype":"FP32","name":"x"}],"outputs":[{"name":"y","parameters":{"classification":2,"binary_data":false}}]}')
    for kind, size, tail in [("INT32", 8, b"\1\0\0\0\2\0\0\0"), ("BYTES", 11, b"\2\0\0\0ab\1\0\0\0c"), ("BOOL", 2, b"\0\1"), ("FP16", 4, b"\0\x3c\0\x7e")]:
        text = f'{{"inputs":[{{"name":"x","shape":[2],"datatype":"{kind}","parameters":{{"binary_data_size":{size}}}}}]}}'
        write("binary", kind, struct.pack("<H", len(text)) + text.encode() + tail)
        raw = field(5, field(1, "x") + field(2, kind) + field(3, varint(2)))
        write("proto", kind + "_raw", field(1, "m") + raw + field(7, tail))
    for name, (number, pack) in CONTENTS.items():
        kind = dict(bool_contents="BOOL", int_contents="INT8", int64_contents="INT64", uint_contents="UINT16",
                    uint64_contents="UINT64", fp32_contents="FP32", fp64_contents="FP64")[name]
        inner = field(1, "x") + field(2, kind) + field(3, varint(2)) + field(5, field(number, pack(1) + pack(0)))
        write("proto", name, field(1, "m") + field(5, inner))
    x = field(1, "x") + field(2, "FP32") + field(3, varint(1) + varint(4))
    y = field(1, "y") + field(2, "BYTES") + field(3, varint(1))
    typed = field(5, contents({"fp32_contents": [1, 2, 3, 4]}))
    write("proto", "signature", field(5, x + typed) + field(5, y + field(5, contents({"bytes_contents": ["ab"]}))) + field(6, field(1, "x")))
    parameters = field(4, field(1, "a") + field(2, field(1, 1))) + field(4, field(1, "b") + field(2, field(2, -1)))
    parameters += field(4, field(1, "c") + field(2, varint(4 << 3 | 1) + struct.pack("<d", 0.5)))
    write("proto", "parameters", field(1, "m") + field(3, "id") + parameters)


def numbers():
    for index, text in enumerate([
        "0,-0,1,-1,127,128,-128,-129,255,256,65535,65536", "9223372036854775807,-9223372036854775808,18446744073709551615",
        "1.0,1e2,0.1e1,1.5,1e-1,-0.0,1E+2", "3.4028235e38,3.4028236e38,1.17549435e-38,1e-45,7e-46", "1.7976931348623157e308,5e-324,2e-324,1e309",
        "0.1,0.2,0.30000000000000004,123456789012345678,1234567890123456789012", "16777217,16777219,33554433.0,9007199254740993",
        " 1 ,\n2,\t3 ", "[1,2],[3,4]", '"NaN","Infinity",NaN,-Infinity', "65504,65520,1e-8,5.960464477539063e-8", "00,1.,.5,1e,+1,--1",
        "0.618034,1.236068,-0.145898,0.4721360,0.0901699,0.7082040,0.3262380,0.9442720,0.5623060,0.18034000", "true,false,1,0",
    ]):
        write("numbers", str(index), text)


def others():
    write("load", "empty", "")
    write("load", "files", '{"parameters":{"config":"{\\"backend\\":\\"onnxruntime\\"}","file:1/model.onnx":"AAEC/w==","file:labels.txt":"YQ"},"x":1}')
    write("load", "nothing", '{"parameters":{}}')
    write("strings", "two", b"\2\2\0\0\0ab\0\0\0\0")
    write("strings", "cut", b"\1\5\0\0\0ab")
    write("strings", "none", b"\0")
    write("v1", "rows", b'\0{"instances":[[1,2],[3,4.5]],"signature_name":"x"}')
    write("v1", "columns", b'\0{"inputs":[[1,2]]}')
    write("v1", "named", b'\3{"instances":[{"age":[1],"name":"a"},{"name":"b","age":[2]}]}')
    write("v1", "named_columns", b'\3{"inputs":{"age":[[1],[2]],"name":["a","b"]}}')
    write("v1", "strings", b'\1{"instances":["a","\\u00e9"]}')
    write("v1", "any_rank", b'\2{"instances":[[[1],[2]],[[3],[4]]]}')
    write("openai", "text", b'\x00{"model":"m","input":"a \\u00e9","encoding_format":"base64","dimensions":8,"user":"u"}')
    write("openai", "texts", b'\x00{"input":["a","b \\ud83d\\ude00",""],"model":"m","truncate":false,"encoding_format":null,"x":{"y":[NaN]}}')
    write("openai", "tokens", b'\x00{"model":"m","input":[101,7592.0,102]}')
    write("openai", "token_lists", b'\x00{"model":"m","input":[[101,102],[],[1e2]],"dimensions":null}')
    write("openai", "documents", b'\x01{"model":"m","query":"q","documents":["a","b"],"top_n":1,"return_documents":true}')
    write("openai", "objects", b'\x01{"documents":[{"id":1,"text":"a"},"b",{"text":"","more":[[]]}],"query":"\\"","model":"m","return_documents":false}')
    write("openai", "empty", b'\x00{"model":"m","input":[]}')
    write("openai", "broken", b'\x01{"model":"m","query":"q","documents":[{"text":"a","text":"b"}]}')
    write("traffic", "weights", '{"weights":{"1":90,"2":0.5},"sticky":{"header":"x-user"},"compare":{"by":"argmax","relative":0}}')
    write("traffic", "canary", '{"sticky":{"cookie":"c"},"shadow":{"version":3,"share":1},"canary":{"version":"2","stable":1,'
          '"steps":[1,50],"step_requests":5,"step_time":"1m","interval":"10ms","errors":0.1,"late":0.1,"latency":2,"disagreement":0.1}}')
    for path in ["/", "/v2", "/v2/health/live", "/v2/health/ready", "/v2/models", "/v2/models/stats", "/metrics", "/v2/logging",
                 "/v2/models/m", "/v2/models/m/versions/1", "/v2/models/a%20b/versions/2/infer?x=1", "/v2/models/m/stats",
                 "/v2/models/m/config", "/v2/models/m/ready/", "/v2/models/m/trace/setting", "/v2/models/m/traffic", "/v2/trace/setting", "/v1/models",
                 "/v2/repository/index", "/v2/repository/models/m/load", "/v2/repository/models/m/unload", "/v1/models/a:b:predict",
                 "/v1/models/m/versions/2:explain", "/v1/embeddings", "/rerank", "/openai/v1/models/m", "/v2/systemsharedmemory/region/r/register", "/v2/cudasharedmemory/status"]:
        write("head", path.replace("/", "_"), f"GET {path} HTTP/1.1\nhost: a\n\n")
    write("head", "headers", "POST /v2/models/m/infer HTTP/1.1\ncontent-type: application/grpc\ngrpc-timeout: 100m\n"
          "inference-header-content-length: 12\ncontent-encoding: gzip\naccept-encoding: gzip;q=0.5, zstd, *;q=0\n"
          "traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01\nx-request-id: 1\norigin: http://a\nx-rate: 100/s\n"
          '\n{"trace_level":["TIMESTAMPS"],"trace_rate":5,"trace_count":null,"log_verbose_level":1,"log_info":true,'
          '"parameters":{"config":"{}","file:1/model.onnx":"AAAA"}}')
    write("coding", "zstd", b"\2" + bytes.fromhex("28b52ffd2001090000" "61"))
    write("coding", "bare_deflate", b"\1" + zlib.compress(b"abc" * 9)[2:-4])


TOML = """runtime = "onnx"
versions = { latest = 2 }
max_batch_size = 8
max_queue_delay = "1ms"
queue_max = 10
queue_timeout = "1s"
instances = 2
threads = 1
slo = "50ms"
file = "a/model.onnx"
execute_time = "1us"
warm_up = false
[[inputs]]
name = "x"
datatype = "FP32"
shape = [-1, 4]
optional = true
[[outputs]]
name = "y"
datatype = "BYTES"
labels = "labels.txt"
"""

PBTXT = """name: "model" platform: "onnxruntime_onnx" max_batch_size: 8 # comment
input [ { name: "x" data_type: TYPE_FP32 dims: [ 3, -1 ] reshape { shape: [ ] } }, { name: 'y' data_type: TYPE_STRING dims: 1 optional: true } ]
output { name: "z" data_type: TYPE_INT64 dims: [1] label_filename: "labels.txt" }
version_policy: { specific: { versions: [1, 2] } }
instance_group [ { count: 2 kind: KIND_CPU } ]
dynamic_batching { preferred_batch_size: [4, 8] max_queue_delay_microseconds: 100 default_queue_policy { timeout_action: DELAY
 default_timeout_microseconds: 5 max_queue_size: 3 } }
parameters { key: "intra_op_thread_count" value: { string_value: "1" } }
parameters: < key: "\\x41\\101\\n" value < string_value: "a" "b" > >;
optimization { graph { level: -1 } } default_model_filename: "model.onnx"
[a.b/c]: 1.5e3 response_cache { enable: false }
"""


CURVE = """spread 0.1
largest 64
work 1 seconds 0.001 seen 4
work 64 seconds 0.02 seen 9
end
"""

PLACES = [
    "s3://bucket/models/a",
    "s3://https://localhost:9000/bucket/a",
    "gs://bucket/a",
    "as://account/container/a",
    "abfss://container@account.dfs.core.windows.net/a",
    "https://account.blob.core.windows.net/container/a?sv=1",
    "http://localhost:80/a%20b/model.onnx",
    "pvc://claim/a",
    f"{'0123456789abcdef' * 4}  1/model.onnx\n{'0' * 64} *./1/weights/a.bin\n# a note\n",
]


def settings():
    write("model_toml", "all", TOML)
    write("curve", "all", CURVE)
    for number, text in enumerate(PLACES):
        write("storage", str(number), text)
    write("config_pbtxt", "all", PBTXT)
    for line, text in enumerate(PBTXT.splitlines()):
        write("config_pbtxt", f"line_{line}", text)
    for line, text in enumerate(TOML.splitlines()):
        write("model_toml", f"line_{line}", text)
    for path in (ROOT / "models").glob("*/model.toml"):
        write("model_toml", path.parent.name, path.read_bytes())
    for folder in (ROOT / "tests/fixtures/candle").glob("*/"):
        write("checkpoint", folder.name, (folder / "config.json").read_bytes())
        for path in folder.glob("*.safetensors"):
            data = path.read_bytes()
            write("checkpoint", f"{folder.name}_{path.stem}", data[8 : 8 + struct.unpack("<Q", data[:8])[0]])
    for path in (ROOT / "models").glob("*/example.json"):
        write("json", path.parent.name, path.read_bytes())


golden()
requests()
numbers()
others()
settings()
