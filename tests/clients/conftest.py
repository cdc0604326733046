"""The servers that all tests share, each started on first use and stopped at the end."""

from collections.abc import Iterator
from pathlib import Path

import pytest

import samples
from server import Server


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
def readme_server() -> Iterator[Server]:
    """What `make run` serves."""
    yield from running(Server(samples.MODELS))


def running(server: Server) -> Iterator[Server]:
    yield server
    server.stop()
