"""The servers that all tests share, each started on first use and stopped at the end."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import samples
from server import ROOT, Server


@pytest.fixture(scope="session")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return samples.copy_repository(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="session")
def server(repository: Path) -> Iterator[Server]:
    """Every version of every sample model."""
    yield from running(Server(repository))


@pytest.fixture(scope="session")
def explicit_server(repository: Path) -> Iterator[Server]:
    """Nothing loaded but iris, until a client asks for more."""
    yield from running(Server(repository, "--model-control", "explicit", "--load-model", "iris"))


@pytest.fixture(scope="session")
def tract_server(repository: Path) -> Iterator[Server]:
    """A machine without ONNX Runtime."""
    yield from running(Server(repository, environment={"ORT_DYLIB_PATH": ""}))


@pytest.fixture(scope="session")
def fetched_models() -> Path:
    """What `make run` fetches, and keeps, since it is 90 MB."""
    kept = ROOT / ".models"
    if not (kept / "minilm/model.safetensors").is_file():
        subprocess.run([sys.executable, samples.MODELS / "_train/minilm.py", kept], check=True)
    return kept


@pytest.fixture(scope="session")
def readme_server(fetched_models: Path) -> Iterator[Server]:
    """What `make run` serves."""
    yield from running(Server(samples.MODELS, fetched_models))


def running(server: Server) -> Iterator[Server]:
    yield server
    server.stop()
