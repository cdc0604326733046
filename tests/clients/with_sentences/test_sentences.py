"""Sentences through every API against what sentence-transformers itself makes of them, and OpenAI's own client."""

import base64
import json
import urllib.request

import numpy as np
import openai
import pytest
import tritonclient.grpc
import tritonclient.http

from server import Server

COSINE_MIN = 0.9999


@pytest.fixture(scope="session")
def client(sentences: Server):
    with openai.OpenAI(base_url=f"{sentences.url}/openai/v1", api_key="none", max_retries=0) as client:
        yield client


def post(server: Server, path: str, body: dict) -> dict:
    request = urllib.request.Request(server.url + path, json.dumps(body).encode(), {"content-type": "application/json"})
    with urllib.request.urlopen(request) as answer:
        return json.load(answer)


def by_v2_json(server: Server, texts: list[str], model: str) -> np.ndarray:
    body = {"inputs": [{"name": "text", "datatype": "BYTES", "shape": [len(texts)], "data": texts}]}
    (output,) = post(server, f"/v2/models/{model}/infer", body)["outputs"]
    return np.array(output["data"], np.float32).reshape(output["shape"])


def by_triton(module):
    def infer(server: Server, texts: list[str], model: str) -> np.ndarray:
        address = server.http if module is tritonclient.http else server.grpc
        with module.InferenceServerClient(address) as client:
            text = module.InferInput("text", [len(texts)], "BYTES")
            text.set_data_from_numpy(np.array([text.encode() for text in texts], np.object_))
            return client.infer(model, [text]).as_numpy("embedding")

    return infer


def by_v1(server: Server, texts: list[str], model: str) -> np.ndarray:
    return np.array(post(server, f"/v1/models/{model}:predict", {"instances": texts})["predictions"], np.float32)


def by_openai(encoding: str, prefix: str = "/openai/v1"):
    def embed(server: Server, texts: list[str], model: str) -> np.ndarray:
        with openai.OpenAI(base_url=server.url + prefix, api_key="none", max_retries=0) as client:
            answer = client.embeddings.create(model=model, input=texts, encoding_format=encoding)
        assert [item.index for item in answer.data] == list(range(len(texts)))
        decode = lambda given: np.frombuffer(base64.b64decode(given), "<f4") if isinstance(given, str) else given  # noqa: E731
        return np.array([decode(item.embedding) for item in answer.data], np.float32)

    return embed


APIS = {
    "V2, JSON": by_v2_json,
    "V2, tritonclient.http": by_triton(tritonclient.http),
    "V2, tritonclient.grpc": by_triton(tritonclient.grpc),
    "V1": by_v1,
    "OpenAI, float": by_openai("float"),
    "OpenAI, base64": by_openai("base64", "/v1"),
}


def cosines(given: np.ndarray, expected: np.ndarray) -> np.ndarray:
    lengths = np.linalg.norm(given, axis=1) * np.linalg.norm(expected, axis=1)
    return (given * expected).sum(axis=1) / lengths


@pytest.mark.parametrize("model", ["minilm", "minilm-onnx"])
def test_every_api_gives_what_sentence_transformers_gives(sentences: Server, expected: list[dict], model: str):
    texts = [case["text"] for case in expected]
    vectors = np.array([np.frombuffer(base64.b64decode(case["embedding"]), "<f4") for case in expected])
    table = {name: cosines(api(sentences, texts, model), vectors) for name, api in APIS.items()}
    # One by one too: whatever shares a batch changes nothing.
    table["alone"] = cosines(np.concatenate([by_v2_json(sentences, [text], model) for text in texts]), vectors)
    print(f"\n{model}")
    for row, case in enumerate(expected):
        least = min(cosine[row] for cosine in table.values())
        print(f"{case['tokens']:>4} tokens  least cosine {least:.7f}  {case['text'][:40]!r}")
    for name, cosine in table.items():
        print(f"{name:24} least cosine {cosine.min():.7f}")
        assert cosine.min() > COSINE_MIN, name


def test_vectors_have_the_length_one_and_tokens_are_counted(client: openai.OpenAI, expected: list[dict]):
    answer = client.embeddings.create(model="minilm", input=[case["text"] for case in expected])
    assert answer.model == "minilm" and answer.object == "list"
    assert answer.usage.prompt_tokens == answer.usage.total_tokens == sum(case["tokens"] for case in expected)
    lengths = np.linalg.norm([item.embedding for item in answer.data], axis=1)
    assert np.allclose(lengths, 1, atol=1e-5)


def test_one_text_and_tokens_are_inputs_too(client: openai.OpenAI):
    text = client.embeddings.create(model="minilm", input="hello").data[0].embedding
    for tokens in ([101, 7592, 102], [[101, 7592, 102]]):
        (item,) = client.embeddings.create(model="minilm", input=tokens).data
        assert np.allclose(item.embedding, text, atol=1e-6)


def test_models_are_listed(client: openai.OpenAI):
    assert [model.id for model in client.models.list()] == ["classifier", "minilm", "minilm-onnx", "ranker", "tagger"]
    assert client.models.retrieve("minilm").owned_by == "tensorgate"


@pytest.mark.parametrize(
    "request_, error, said",
    [
        ({"input": ""}, openai.BadRequestError, "text 0: it is empty"),
        ({"input": []}, openai.BadRequestError, "empty list"),
        ({"input": "a", "dimensions": 100}, openai.BadRequestError, "'dimensions' is 100, expected 384"),
        ({"input": "a " * 300, "extra_body": {"truncate": False}}, openai.BadRequestError, "it has 302 tokens, the model takes at most 256"),
        ({"input": [99999]}, openai.BadRequestError, "no token of the model"),
        ({"input": "a", "model": "nowhere"}, openai.NotFoundError, "unknown model 'nowhere'"),
        ({"input": "a", "model": "ranker"}, openai.BadRequestError, "gives no embeddings"),
        ({"input": "a", "encoding_format": "int8"}, openai.BadRequestError, "'encoding_format'"),
        ({"input": ["a"] * 2049}, openai.APIStatusError, "more than 2048 texts"),
    ],
)
def test_errors_are_those_of_openais_client(client: openai.OpenAI, request_: dict, error: type, said: str):
    with pytest.raises(error) as raised:
        client.embeddings.create(**({"model": "minilm"} | request_))
    assert said in raised.value.body["message"] and raised.value.type == "invalid_request_error"
    assert client.embeddings.create(model="minilm", input="still there").data


def test_sentences_of_one_meaning_are_near_each_other(sentences: Server):
    alike, other, unlike = by_v2_json(sentences, ["A man is eating food.", "Someone has a meal.", "The stock market fell sharply."], "minilm")
    assert alike @ other > 0.5 > 0.2 > alike @ unlike


def test_pairs_are_ranked(sentences: Server):
    body = {"model": "ranker", "query": "hello", "documents": ["good", "paris", "bad"], "top_n": 2}
    results = post(sentences, "/rerank", body)["results"]
    scores = [result["relevance_score"] for result in results]
    assert len(results) == 2 and scores == sorted(scores, reverse=True)
    assert [result["document"]["text"] for result in results] == [body["documents"][result["index"]] for result in results]


def test_tritonclient_reads_the_metadata_of_both_faces(sentences: Server):
    with tritonclient.http.InferenceServerClient(sentences.http) as client:
        metadata = client.get_model_metadata("minilm")
    inputs = {given["name"]: given["datatype"] for given in metadata["inputs"]}
    assert inputs["text"] == "BYTES" and inputs["input_ids"] == "INT64"
    assert metadata["outputs"][-1] == {"name": "embedding", "datatype": "FP32", "shape": [-1, 384]}
