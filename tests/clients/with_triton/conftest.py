"""Every test that asks for a client is run with each of tritonclient's four."""

from collections.abc import Iterator

import pytest

from server import Server
from triton_clients import CLIENTS, HTTP_CLIENTS, Client, opened_client


@pytest.fixture(scope="session", params=CLIENTS.values(), ids=CLIENTS)
def client(request: pytest.FixtureRequest, server: Server) -> Iterator[Client]:
    """Each of the four, connected to the server of all samples."""
    yield from opened_client(request.param(server))


@pytest.fixture(scope="session", params=HTTP_CLIENTS.values(), ids=HTTP_CLIENTS)
def http_client(request: pytest.FixtureRequest, server: Server) -> Iterator[Client]:
    """The two that choose between JSON and binary tensors."""
    yield from opened_client(request.param(server))


@pytest.fixture(scope="session", params=CLIENTS.values(), ids=CLIENTS)
def explicit_client(request: pytest.FixtureRequest, explicit_server: Server) -> Iterator[Client]:
    """Each of the four, connected to the server that loads on demand."""
    yield from opened_client(request.param(explicit_server))

