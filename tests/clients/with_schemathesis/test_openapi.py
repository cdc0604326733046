"""The server keeps to the OpenAPI document that it serves: schemathesis invents requests from it, good and bad.

No answer is a server error, every status, content type, header and body is as documented, what the document forbids is
refused, and so are methods it does not have. The requests are the same in every run.
"""

import json
import os
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

import samples
from server import Server

HERE = Path(__file__).parent
CHECKS = [
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_schema_conformance",
    "response_headers_conformance",
    "negative_data_rejection",
    "unsupported_method",
]
EXAMPLES = 15  # invented for each operation, beside the systematic ones
RUN_SECONDS_MAX = 100  # what a run takes on two busy cores is a tenth of it
TOKEN = "a-token-for-tests"
REGION = f"/dev/shm/tensorgate-openapi-{os.getpid()}"


@pytest.fixture(scope="module")
def plain_server() -> Iterator[Server]:
    """A server of its own: log settings are changed at random."""
    server = Server(samples.MODELS)
    yield server
    server.stop()


@pytest.fixture(scope="module")
def full_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server with keys and shared memory."""
    keys = tmp_path_factory.mktemp("keys") / "keys.toml"
    scopes = ["infer", "metadata", "repository", "metrics", "admin"]
    keys.write_text(f'[[key]]\nname = "tests"\ntoken = "{TOKEN}"\nscopes = {json.dumps(scopes)}\n')
    Path(REGION).write_bytes(bytes(4096))
    server = Server(samples.MODELS, "--auth-file", keys, "--shared-memory-prefix", REGION)
    yield server
    server.stop()
    Path(REGION).unlink()


def bodies(model: str) -> dict[str, list]:
    """Good bodies for the operations that take any."""
    example = json.loads((samples.MODELS / model / "example.json").read_text())
    columns = {name: array.tolist() for name, array in samples.arrays(example["inputs"]).items()}
    first = next(iter(columns.values()))
    binary = example | {"parameters": {"binary_data_output": True}}
    return {
        "infer": [example, binary],
        "predict": [{"inputs": columns}, {"instances": first[:1]}],
        "registerRegion": [{"key": REGION.removeprefix("/dev/shm"), "offset": 0, "byte_size": 4096}],
        "setTrace": [{"trace_level": ["TIMESTAMPS"], "trace_rate": "5"}],
        "index": [{"ready": True}],
    }


def run(server: Server, folder: Path, model: str | None, *arguments: str) -> None:
    """One run of schemathesis with every `{model}` this one, or any name."""
    config = folder / "schemathesis.toml"
    config.write_text(f'[parameters]\n"path.model" = "{model}"\n"path.version" = "1"\n' if model else "")
    (folder / "bodies.json").write_text(json.dumps(bodies(model) if model else {}))
    command = [Path(sys.executable).with_name("schemathesis"), "--config-file", config, "run"]
    command += [f"{server.url}/openapi.json", "--no-color", "--continue-on-failure", "--generation-deterministic"]
    command += ["--max-examples", str(EXAMPLES), "--warnings", "off"]
    environment = os.environ | {
        "SCHEMATHESIS_HOOKS": "hooks",
        "SCHEMATHESIS_BODIES": str(folder / "bodies.json"),
        "PYTHONPATH": str(HERE),
    }
    done = subprocess.run(
        [*command, *arguments], cwd=folder, env=environment, capture_output=True, text=True, timeout=RUN_SECONDS_MAX
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("model", ["iris", "tickets"])
def test_good_requests_are_taken(plain_server: Server, tmp_path: Path, model: str):
    run(plain_server, tmp_path, model, "--checks", ",".join([*CHECKS, "positive_data_acceptance"]), "--phases", "examples")


@pytest.mark.parametrize(
    ("model", "phases"),
    [("iris", "examples,coverage,fuzzing"), ("tickets", "examples,fuzzing"), (None, "fuzzing")],
    ids=["numbers", "strings", "any-name"],
)
def test_answers_are_as_the_document_has_them(plain_server: Server, tmp_path: Path, model: str | None, phases: str):
    run(plain_server, tmp_path, model, "--checks", ",".join(CHECKS), "--phases", phases)


def test_keys_and_shared_memory_are_as_the_document_has_them(full_server: Server, tmp_path: Path):
    checks = ",".join([*CHECKS, "ignored_auth"])
    run(full_server, tmp_path, "wine", "--checks", checks, "--header", f"Authorization: Bearer {TOKEN}", "--phases", "examples,coverage,fuzzing")


def test_the_document_has_what_is_on(plain_server: Server, full_server: Server):
    request = urllib.request.Request(f"{full_server.url}/openapi.json")
    with pytest.raises(urllib.error.HTTPError) as refusal:
        urllib.request.urlopen(request, timeout=60)
    assert refusal.value.code == 401
    request.add_header("authorization", f"Bearer {TOKEN}")
    full = json.loads(urllib.request.urlopen(request, timeout=60).read())
    plain = json.loads(urllib.request.urlopen(f"{plain_server.url}/openapi.json", timeout=60).read())
    assert {*full["paths"]} - {*plain["paths"]} == {path for path in full["paths"] if "systemsharedmemory" in path}
    assert "securitySchemes" in full["components"] and "securitySchemes" not in plain["components"]
