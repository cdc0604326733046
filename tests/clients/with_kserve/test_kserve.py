"""KServe's own SDK: `InferenceRESTClient` and `InferenceGRPCClient` against every sample model."""

import asyncio
import logging
from collections.abc import Awaitable, Callable

import grpc
import httpx
import numpy as np
import pytest
from kserve import InferenceGRPCClient, InferenceRESTClient, InferInput, InferRequest, InferResponse
from kserve.inference_client import RESTConfig
from kserve.protocol.infer_type import RequestedOutput

import samples
from samples import NEWEST, SAMPLES, Arrays, Sample, assert_same
from server import Server

logging.getLogger("kserve.trace").setLevel(logging.CRITICAL)  # it logs every refusal with its traceback
IRIS = samples.sample("iris")
IN_FLIGHT = 100


class Rest:
    """The SDK over HTTP."""

    refusal = httpx.HTTPStatusError
    statuses = {"invalid": 400, "unknown": 404}

    def __init__(self, server: Server):
        self.url = server.url
        self.sdk = InferenceRESTClient(RESTConfig(protocol="v2", retries=0))

    async def infer(self, request: InferRequest) -> InferResponse:
        return await self.sdk.infer(self.url, request, model_name=request.model_name)

    def health(self) -> list[Awaitable[bool]]:
        return [self.sdk.is_server_live(self.url), self.sdk.is_server_ready(self.url)]

    def model_ready(self, name: str) -> Awaitable[bool]:
        return self.sdk.is_model_ready(self.url, name)

    def status(self, refusal: httpx.HTTPStatusError) -> int:
        return refusal.response.status_code


class Grpc:
    """The SDK over gRPC."""

    refusal = grpc.aio.AioRpcError
    statuses = {"invalid": grpc.StatusCode.INVALID_ARGUMENT, "unknown": grpc.StatusCode.NOT_FOUND}

    def __init__(self, server: Server):
        self.sdk = InferenceGRPCClient(server.grpc, retries=0)

    async def infer(self, request: InferRequest) -> InferResponse:
        return await self.sdk.infer(request)

    def health(self) -> list[Awaitable[bool]]:
        return [self.sdk.is_server_live(), self.sdk.is_server_ready()]

    def model_ready(self, name: str) -> Awaitable[bool]:
        return self.sdk.is_model_ready(name)

    def status(self, refusal: grpc.aio.AioRpcError) -> grpc.StatusCode:
        return refusal.code()


Client = Rest | Grpc
Use = Callable[[Callable[[Client], Awaitable[None]]], None]


@pytest.fixture(params=[Rest, Grpc], ids=["rest", "grpc"])
def use(request: pytest.FixtureRequest, server: Server) -> Use:
    """Runs a coroutine with a client, which lives as long as its event loop."""

    async def with_client(steps: Callable[[Client], Awaitable[None]]) -> None:
        client = request.param(server)
        async with client.sdk:
            await asyncio.wait_for(steps(client), 60)

    return lambda steps: asyncio.run(with_client(steps))


def request_for(model: str, inputs: Arrays, binary: bool = True, outputs: tuple[str, ...] = (), **more) -> InferRequest:
    wanted = [RequestedOutput(name, {"binary_data": binary}) for name in outputs]
    given = [infer_input(name, array, binary) for name, array in inputs.items()]
    return InferRequest(model, given, request_outputs=wanted, **more)


def infer_input(name: str, array: np.ndarray, binary: bool) -> InferInput:
    made = InferInput(name, list(array.shape), samples.datatype(array))
    made.set_data_from_numpy(array, binary_data=binary)
    return made


def arrays(response: InferResponse) -> Arrays:
    return {output.name: output.as_numpy() for output in response.outputs}


def test_the_server_is_live_and_ready(use: Use):
    async def steps(client: Client):
        assert await asyncio.gather(*client.health()) == [True, True]

    use(steps)


def test_every_model_is_ready(use: Use):
    async def steps(client: Client):
        for sample in NEWEST:
            assert await client.model_ready(sample.name)

    use(steps)


@pytest.mark.parametrize("binary", [True, False], ids=["binary", "json"])
@pytest.mark.parametrize("sample", NEWEST, ids=str)
def test_every_model_answers_like_onnx_runtime(use: Use, sample: Sample, binary: bool):
    async def steps(client: Client):
        for inputs in [sample.example()] + [sample.random(rows) for rows in range(1, 9)]:
            response = await client.infer(request_for(sample.name, inputs, binary))
            assert response.model_name == sample.name
            assert_same(arrays(response), sample.answer(inputs))

    use(steps)


@pytest.mark.parametrize("binary", [True, False], ids=["binary", "json"])
@pytest.mark.parametrize("sample", NEWEST, ids=str)
def test_the_outputs_asked_for_come_back(use: Use, sample: Sample, binary: bool):
    inputs = sample.random(rows=2)
    outputs = dict(reversed(sample.answer(inputs).items()))

    async def steps(client: Client):
        response = await client.infer(request_for(sample.name, inputs, binary, (*outputs,)))
        assert_same(arrays(response), outputs)

    use(steps)


@pytest.mark.parametrize("sample", SAMPLES, ids=str)
def test_a_version_can_be_named_over_grpc(server: Server, sample: Sample):
    """Over REST the SDK can neither name one nor does it keep the one that answered."""
    inputs = sample.random(rows=2)

    async def infer() -> InferResponse:
        async with InferenceGRPCClient(server.grpc) as sdk:
            return await sdk.infer(request_for(sample.name, inputs, model_version=sample.version))

    response = asyncio.run(infer())
    assert response.model_version == sample.version
    assert_same(arrays(response), sample.answer(inputs))


def test_the_request_id_comes_back(use: Use):
    async def steps(client: Client):
        for request_id in ("42", "größe-🙂"):
            response = await client.infer(request_for("iris", IRIS.example(), request_id=request_id))
            assert response.id == request_id

    use(steps)


def test_many_requests_at_once_get_their_own_answers(use: Use):
    given = [(sample, sample.random(2, seed)) for seed in range(IN_FLIGHT) for sample in [NEWEST[seed % len(NEWEST)]]]

    async def steps(client: Client):
        sent = (client.infer(request_for(sample.name, inputs)) for sample, inputs in given)
        for (sample, inputs), response in zip(given, await asyncio.gather(*sent), strict=True):
            assert_same(arrays(response), sample.answer(inputs))

    use(steps)


def test_a_path_prefix_of_the_url_is_the_gateways_business(server: Server):
    """Without a gateway that takes it off, the answer is an error in the protocol's form."""

    async def infer():
        async with InferenceRESTClient(RESTConfig(protocol="v2")) as sdk:
            await sdk.infer(f"{server.url}/serving/ns/iris", request_for("iris", IRIS.example()), model_name="iris")

    with pytest.raises(httpx.HTTPStatusError, match="unknown path.*404"):
        asyncio.run(infer())


MISTAKES = {
    "wrong shape": ("invalid", "iris", {"features": np.ones((1, 5), np.float32)}, ["'features'", "[1,5]", "[-1,4]"]),
    "wrong datatype": ("invalid", "iris", {"features": np.ones((1, 4), np.int64)}, ["'features'", "INT64", "FP32"]),
    "unknown input": ("invalid", "iris", {"petals": np.ones((1, 4), np.float32)}, ["'petals'", "'features'"]),
    "unknown model": ("unknown", "irish", IRIS.example(), ["'irish'"]),
}


@pytest.mark.parametrize("kind, model, inputs, words", MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_explained_and_the_next_request_is_answered(use: Use, kind, model, inputs, words):
    async def steps(client: Client):
        with pytest.raises(client.refusal) as refusal:
            await client.infer(request_for(model, inputs))
        assert client.status(refusal.value) == client.statuses[kind]
        assert all(word in str(refusal.value) for word in words), refusal.value
        response = await client.infer(request_for("iris", IRIS.example()))
        assert_same(arrays(response), IRIS.expected())

    use(steps)


def test_an_unknown_model_is_not_ready(use: Use):
    async def steps(client: Client):
        try:
            assert await client.model_ready("irish") is False
        except grpc.aio.AioRpcError as refusal:
            assert refusal.code() == grpc.StatusCode.NOT_FOUND

    use(steps)


def test_v1_of_the_sdk_predicts_and_tells_what_is_ready(server: Server):
    async def steps():
        async with InferenceRESTClient(RESTConfig(protocol="v1", retries=0)) as sdk:
            assert await sdk.is_server_live(server.url)
            assert await sdk.is_model_ready(server.url, "iris")
            instances = IRIS.example()["features"].tolist()
            answer = await sdk.infer(server.url, {"instances": instances}, model_name="iris")
            for name, expected in IRIS.expected().items():
                found = np.array([prediction[name] for prediction in answer["predictions"]], expected.dtype)
                np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
            with pytest.raises(httpx.HTTPStatusError, match="gives no explanations.*501"):
                await sdk.explain(server.url, "iris", {"instances": instances})

    asyncio.run(steps())
