"""Models out of real stores: S3 (moto), Google Cloud Storage (fake-gcs-server) and Azure Blob Storage (Azurite)."""

import hashlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests

sys.path.insert(0, str(Path(__file__).parent))

import stores  # noqa: E402
from server import BINARY, NOT_OURS, ROOT, Server  # noqa: E402

MODEL = (ROOT / "tests/fixtures/identity_fp32.onnx").read_bytes()
# More than two pieces of a download.
BALLAST = os.urandom(20_000_003)


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@pytest.fixture(params=stores.ALL, scope="module")
def store(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[stores.Store]:
    if request.param == "azure" and not stores.AZURITE.exists():
        pytest.skip("Azurite could not be installed, see run.sh")
    with stores.ALL[request.param](tmp_path_factory.mktemp("store")) as running:
        running.put("models/m/1/model.onnx", MODEL)
        running.put("models/m/1/ballast.bin", BALLAST)
        lines = f"{sha256(MODEL)}  model.onnx\n{sha256(BALLAST)}  ballast.bin\n"
        running.put("models/m/1/SHA256SUMS", lines.encode())
        running.put("models/m/model.toml", b'slo = "70ms"\n')
        yield running


def metric(server: Server, name: str) -> float:
    lines = requests.get(f"{server.url}/metrics", timeout=30).text.splitlines()
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith(name))


def answers(server: Server, model: str = "m") -> None:
    tensor = {"name": "x", "datatype": "FP32", "shape": [1, 2], "data": [1.5, -2.0]}
    answer = requests.post(f"{server.url}/v2/models/{model}/infer", json={"inputs": [tensor]}, timeout=30)
    assert answer.ok and answer.json()["outputs"][0]["data"] == [1.5, -2.0], answer.text


def check(*arguments: str, environment: dict[str, str]) -> subprocess.CompletedProcess:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(NOT_OURS)}
    command = [BINARY, "check", *arguments]
    return subprocess.run(command, env=inherited | environment, capture_output=True, encoding="utf-8", timeout=120)


def test_a_repository_is_served_verified_and_kept(store: stores.Store, tmp_path: Path) -> None:
    arguments = (f"{store.uri}/models", "--cache-dir", tmp_path / "cache")
    server = Server(*arguments, environment=store.environment)
    answers(server)
    metadata = requests.get(f"{server.url}/v2/models/m", timeout=30).json()
    assert metadata["properties"]["digest"] == f"sha256:{sha256(MODEL)}"
    assert metric(server, "tensorgate_storage_fetched_bytes_total") >= len(MODEL) + len(BALLAST)
    server.stop()
    # All of it is there after a restart.
    server = Server(*arguments, environment=store.environment)
    answers(server)
    assert metric(server, "tensorgate_storage_fetched_bytes_total") == 0
    assert metric(server, "tensorgate_cache_misses_total") == 0
    server.stop()


def test_one_model_is_a_folder_or_a_file(store: stores.Store, tmp_path: Path) -> None:
    for uri in (f"{store.uri}/models/m", f"{store.uri}/models/m/1/model.onnx"):
        arguments = ("--model-name", "one", "--storage-uri", uri, "--cache-dir", tmp_path / "cache")
        server = Server(*arguments, environment=store.environment)
        answers(server, "one")
        server.stop()


def test_bytes_that_are_not_what_they_should_be_are_refused(store: stores.Store, tmp_path: Path) -> None:
    store.put("damaged/m/1/model.onnx", MODEL)
    store.put("damaged/m/1/SHA256SUMS", f"{sha256(b'others')}  model.onnx\n".encode())
    ended = check(f"{store.uri}/damaged", "--cache-dir", str(tmp_path), environment=store.environment)
    assert ended.returncode == 1 and "SHA256SUMS says" in ended.stdout and sha256(MODEL) in ended.stdout, ended


def test_a_place_that_is_not_there_is_named(store: stores.Store, tmp_path: Path) -> None:
    ended = check(f"{store.uri}/nowhere", "--cache-dir", str(tmp_path), environment=store.environment)
    assert ended.returncode == 1 and f"{store.uri}/nowhere" in ended.stdout, ended


def test_wrong_credentials_are_told_as_such(tmp_path: Path) -> None:
    if not stores.AZURITE.exists():
        pytest.skip("Azurite could not be installed, see run.sh")
    # Of these servers the one that looks at credentials.
    with stores.azure(tmp_path / "store") as store:
        store.put("models/m/1/model.onnx", MODEL)
        environment = store.environment | {"AZURE_STORAGE_ACCESS_KEY": "d3Jvbmc="}
        ended = check(f"{store.uri}/models", "--cache-dir", str(tmp_path / "cache"), environment=environment)
        assert ended.returncode == 1 and "credentials" in ended.stdout, ended


def test_a_web_server_behind_tls_is_trusted_by_its_certificate(tmp_path: Path) -> None:
    folder = tmp_path / "files"
    (folder / "m/1").mkdir(parents=True)
    (folder / "m/1/model.onnx").write_bytes(MODEL)
    (folder / "m/1/ballast.bin").write_bytes(BALLAST)
    (folder / "SHA256SUMS").write_text(f"{sha256(MODEL)}  m/1/model.onnx\n{sha256(BALLAST)}  m/1/ballast.bin\n")
    with stores.https(folder) as (url, certificate):
        arguments = (url, "--cache-dir", tmp_path / "cache")
        server = Server(*arguments, environment={"AWS_CA_BUNDLE": str(certificate)})
        answers(server)
        server.stop()
        ended = check(url, "--cache-dir", str(tmp_path / "other"), environment={})
        assert ended.returncode == 1 and "certificate" in ended.stdout, ended
