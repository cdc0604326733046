"""KServe's own SDK sends texts as its Hugging Face server takes them: one input of BYTES, whatever its name."""

import asyncio
from collections.abc import Iterator

import numpy as np
import pytest
from kserve import InferenceGRPCClient, InferenceRESTClient, InferInput, InferRequest
from kserve.inference_client import RESTConfig

from server import ROOT, Server


@pytest.fixture(scope="module")
def texts() -> Iterator[Server]:
    server = Server(ROOT / "tests/fixtures/text")
    yield server
    server.stop()


def test_texts_are_classified_and_embedded_over_both_doors(texts: Server):
    async def infer(model: str, name: str) -> list:
        given = InferInput(name, [2], "BYTES")
        given.set_data_from_numpy(np.array(["hello", "paris, anna"], np.object_))
        request = InferRequest(model_name=model, infer_inputs=[given])
        rest = InferenceRESTClient(RESTConfig(protocol="v2", retries=0))
        answers = [
            await rest.infer(texts.url, request, model_name=model),
            await InferenceGRPCClient(texts.grpc, retries=0).infer(request),
        ]
        return [{output.name: output.as_numpy() for output in answer.outputs} for answer in answers]

    for answer in asyncio.run(infer("encoder", "input-0")):
        assert answer["embedding"].shape == (2, 8)
    http, grpc = asyncio.run(infer("classifier", "text"))
    assert [str(label) for label in http["label"]] == [label.decode() for label in grpc["label"]]
    assert np.allclose(http["score"], grpc["score"], atol=1e-6) and http["logits"].shape == (2, 3)
