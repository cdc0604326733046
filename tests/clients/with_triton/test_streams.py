"""`ModelStreamInfer` with both of tritonclient's gRPC clients."""

import asyncio
import queue
from collections.abc import Iterator

import pytest
import tritonclient.grpc
import tritonclient.grpc.aio
from tritonclient.utils import InferenceServerException

import samples
from samples import Arrays, assert_same
from server import Server
from triton_clients import WAIT_SECONDS_MAX, Call, Client, GrpcClient

IRIS = samples.sample("iris")


@pytest.fixture(scope="module")
def client(server: Server) -> Iterator[GrpcClient]:
    opened = GrpcClient(server)
    yield opened
    opened.close()


def calls() -> list[Call]:
    """Good requests of many sizes, with a wrong one among them."""
    made = [Call("iris", IRIS.random(rows, seed=rows), request_id=f"{rows}") for rows in range(1, 60)]
    made.insert(30, Call("irish", IRIS.random(1), request_id="wrong"))
    return made


def check(client: Client, call: Call, result, error: InferenceServerException | None) -> None:
    if call.model == "irish":
        assert "'irish'" in error.message()
        return
    assert error is None
    assert client.head(result) == {"model_name": "iris", "model_version": IRIS.version, "id": call.request_id}
    assert_same(client.arrays(result), IRIS.answer(call.inputs))


def test_callbacks_come_in_the_order_of_the_requests(client: GrpcClient):
    answers: queue.Queue = queue.Queue()
    client.calls.start_stream(callback=lambda result, error: answers.put((result, error)))
    try:
        sent = calls()
        for call in sent:
            client.calls.async_stream_infer(**client.arguments(call), enable_empty_final_response=True)
        for call in sent:
            result, error = answers.get(timeout=WAIT_SECONDS_MAX)
            check(client, call, result, error)
            if result is not None:
                assert result.get_response().parameters["triton_final_response"].bool_param
    finally:
        client.calls.stop_stream()
    assert answers.empty()


def test_an_error_ends_the_stream_of_a_client_that_wants_it_so(client: GrpcClient):
    answers: queue.Queue = queue.Queue()
    callback = lambda result, error: answers.put((result, error))
    client.calls.start_stream(callback=callback, headers={"triton_grpc_error": "true"})
    try:
        client.calls.async_stream_infer(**client.arguments(Call("irish", IRIS.example())))
        _, error = answers.get(timeout=WAIT_SECONDS_MAX)
    finally:
        client.calls.stop_stream()
    assert error.status() == "StatusCode.NOT_FOUND"
    assert "'irish'" in error.message()


def test_the_aio_client_streams_too(client: GrpcClient, server: Server):
    async def stream() -> list[tuple]:
        async with tritonclient.grpc.aio.InferenceServerClient(server.grpc) as aio:

            async def requests():
                for call in calls():
                    yield client.arguments(call)

            return [answer async for answer in aio.stream_infer(requests())]

    answers = asyncio.run(asyncio.wait_for(stream(), WAIT_SECONDS_MAX))
    assert len(answers) == len(calls())
    for call, (result, error) in zip(calls(), answers):
        check(client, call, result, error)


def test_a_stream_needs_no_requests(client: GrpcClient):
    client.calls.start_stream(callback=lambda result, error: None)
    client.calls.stop_stream()
    answers: Arrays = client.answers(IRIS, IRIS.example())
    assert_same(answers, IRIS.expected())
