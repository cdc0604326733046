"""The four clients of tritonclient behind one set of methods, so that every test can be run with each of them."""

import abc
import asyncio
import functools
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass, field

import numpy as np
import tritonclient.grpc
import tritonclient.grpc.aio
import tritonclient.http
import tritonclient.http.aio
from tritonclient.utils import InferenceServerException

from samples import Arrays, Sample, datatype
from server import Server

CONNECTIONS = 16  # of the HTTP clients; gRPC needs one
WAIT_SECONDS_MAX = 60
STATUSES = {
    "invalid": ("400", "StatusCode.INVALID_ARGUMENT"),
    "unknown": ("404", "StatusCode.NOT_FOUND"),
    "conflict": ("409", "StatusCode.FAILED_PRECONDITION"),
    "unavailable": ("503", "StatusCode.UNAVAILABLE"),
    "overloaded": ("429", "StatusCode.RESOURCE_EXHAUSTED"),
}


@dataclass
class Call:
    """One infer request, as tritonclient's users think of it."""

    model: str
    inputs: Arrays
    version: str = ""
    outputs: list[str] | None = None
    request_id: str = ""
    more: dict = field(default_factory=dict)


class Client(abc.ABC):
    """What the four have in common: everything but how one waits for many answers."""

    def __init__(self, module, client):
        self.module = module  # where this client's InferInput lives
        self.calls = client  # tritonclient's own methods, all of which block here
        self.over_http = module is tritonclient.http

    @abc.abstractmethod
    def many(self, calls: list[Call]) -> list[Arrays | InferenceServerException]:
        """All of them sent before the first answer is waited for."""

    @abc.abstractmethod
    def close(self) -> None:
        """Ends its connections."""

    def infer(self, model: str | Sample, inputs: Arrays, **call):
        if isinstance(model, Sample):
            model, call["version"] = model.name, model.version
        return self.calls.infer(**self.arguments(Call(model, inputs, **call)))

    def answers(self, model: str | Sample, inputs: Arrays, **call) -> Arrays:
        return self.arrays(self.infer(model, inputs, **call))

    def arguments(self, call: Call) -> dict:
        outputs = call.outputs and [self.module.InferRequestedOutput(name) for name in call.outputs]
        named = {"model_name": call.model, "model_version": call.version, "request_id": call.request_id}
        return named | {"inputs": self.inputs(call.inputs), "outputs": outputs} | call.more

    def inputs(self, arrays: Arrays) -> list:
        return [self.input(name, array) for name, array in arrays.items()]

    def input(self, name: str, array: np.ndarray, **how):
        made = self.module.InferInput(name, list(array.shape), datatype(array))
        made.set_data_from_numpy(array, **how)
        return made

    def arrays(self, result) -> Arrays:
        """Every output, in the order answered."""
        answer = result.get_response()
        names = [o["name"] for o in answer["outputs"]] if self.over_http else [o.name for o in answer.outputs]
        return {name: result.as_numpy(name) for name in names}

    def outcome(self, get: Callable) -> Arrays | InferenceServerException:
        """What one of many requests came to."""
        try:
            return self.arrays(get())
        except InferenceServerException as refusal:
            return refusal

    def head(self, result) -> dict[str, str]:
        """Who answered what."""
        answer, keys = result.get_response(), ("model_name", "model_version", "id")
        return {key: answer.get(key, "") if self.over_http else getattr(answer, key) for key in keys}

    def metadata(self, method: str, *arguments) -> dict | list:
        """An answer in JSON; protobuf's JSON has strings for 64-bit numbers and leaves out what is empty."""
        call = getattr(self.calls, method)
        return call(*arguments) if self.over_http else call(*arguments, as_json=True)

    def index(self) -> dict[Sample, str]:
        """The state of every version."""
        entries = self.metadata("get_model_repository_index")
        entries = entries if self.over_http else entries["models"]
        return {Sample(entry["name"], entry["version"]): entry["state"] for entry in entries}

    def status(self, kind: str) -> str:
        return STATUSES[kind][0 if self.over_http else 1]


class HttpClient(Client):
    """tritonclient.http: greenlets."""

    def __init__(self, server: Server):
        module = tritonclient.http
        super().__init__(module, module.InferenceServerClient(server.http, concurrency=CONNECTIONS))

    def many(self, calls):
        sent = [self.calls.async_infer(**self.arguments(call)) for call in calls]
        return [self.outcome(functools.partial(one.get_result, timeout=WAIT_SECONDS_MAX)) for one in sent]

    def close(self) -> None:
        self.calls.close()


class GrpcClient(Client):
    """tritonclient.grpc: callbacks on threads of its own."""

    def __init__(self, server: Server):
        module = tritonclient.grpc
        super().__init__(module, module.InferenceServerClient(server.grpc))

    def many(self, calls):
        results: list[Future] = [Future() for _ in calls]
        for call, result in zip(calls, results):
            self.calls.async_infer(callback=functools.partial(settle, result), **self.arguments(call))
        return [self.outcome(functools.partial(result.result, WAIT_SECONDS_MAX)) for result in results]

    def close(self) -> None:
        self.calls.close()


def settle(future: Future, result, error) -> None:
    """tritonclient's callback."""
    future.set_exception(error) if error else future.set_result(result)


class Blocking:
    """An aio client whose methods are run to their end, on an event loop of its own."""

    def __init__(self, make: Callable):
        self._loop = asyncio.new_event_loop()
        self.client = self.run(self._made(make))

    def __getattr__(self, name: str) -> Callable:
        method = getattr(self.client, name)
        return lambda *arguments, **named: self.run(method(*arguments, **named))

    def run(self, coroutine):
        return self._loop.run_until_complete(asyncio.wait_for(coroutine, WAIT_SECONDS_MAX))

    def shut(self) -> None:
        self.run(self.client.close())
        self._loop.close()

    @staticmethod
    async def _made(make: Callable):
        return make()  # aiohttp wants to be made on its loop


class AioClient(Client):
    """What the two aio clients have in common."""

    def many(self, calls):
        async def at_once():
            sent = [asyncio.ensure_future(self.calls.client.infer(**self.arguments(call))) for call in calls]
            await asyncio.wait(sent)
            return sent

        return [self.outcome(one.result) for one in self.calls.run(at_once())]

    def close(self) -> None:
        self.calls.shut()


class HttpAioClient(AioClient):
    """tritonclient.http.aio."""

    def __init__(self, server: Server):
        make = tritonclient.http.aio.InferenceServerClient
        super().__init__(tritonclient.http, Blocking(lambda: make(server.http, conn_limit=CONNECTIONS)))


class GrpcAioClient(AioClient):
    """tritonclient.grpc.aio."""

    def __init__(self, server: Server):
        make = tritonclient.grpc.aio.InferenceServerClient
        super().__init__(tritonclient.grpc, Blocking(lambda: make(server.grpc)))


HTTP_CLIENTS = {"http": HttpClient, "http.aio": HttpAioClient}
CLIENTS = HTTP_CLIENTS | {"grpc": GrpcClient, "grpc.aio": GrpcAioClient}


def opened_client(client: Client) -> Iterator[Client]:
    """For fixtures: the client, closed afterwards."""
    yield client
    client.close()
