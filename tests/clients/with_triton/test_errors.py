"""What a mistake gets: tritonclient's exception with the right status, and a message that says what would be right."""

from dataclasses import dataclass, field

import numpy as np
import pytest
from tritonclient.utils import InferenceServerException

import samples
from samples import Arrays, assert_same
from triton_clients import Client

IRIS = samples.sample("iris")


def floats(*shape: int) -> np.ndarray:
    return np.ones(shape, np.float32)


def churn(**changes: np.ndarray) -> Arrays:
    return samples.sample("churn").random(rows=2) | changes


@dataclass(frozen=True)
class Mistake:
    """A request that cannot be answered."""

    inputs: Arrays
    words: tuple[str, ...]  # that the message has to have
    model: str = "iris"
    kind: str = "invalid"
    call: dict = field(default_factory=dict)


MISTAKES = {
    "too few columns": Mistake({"features": floats(1, 3)}, ("'iris'", "'features'", "[1,3]", "[-1,4]")),
    "too many dimensions": Mistake({"features": floats(1, 1, 4)}, ("'iris'", "'features'", "[1,1,4]", "[-1,4]")),
    "no batch dimension": Mistake({"features": floats(4)}, ("'iris'", "'features'", "[4]", "[-1,4]")),
    "whole numbers for floats": Mistake({"features": np.ones((1, 4), np.int64)}, ("'features'", "INT64", "FP32")),
    "strings for floats": Mistake({"features": np.full((1, 4), "a", np.object_)}, ("'features'", "BYTES", "FP32")),
    "floats for strings": Mistake({"text": floats(1)}, ("'text'", "FP32", "BYTES"), "tickets"),
    "an unknown input": Mistake({"petals": floats(1, 4)}, ("'iris'", "'petals'", "'features'")),
    "one input too many": Mistake({"features": floats(1, 4), "petals": floats(1)}, ("'petals'", "'features'")),
    "no input": Mistake({}, ("'iris'", "'features'", "missing")),
    "one input missing": Mistake({"user": np.array([1])}, ("'item'", "missing"), "recommender"),
    "batches of different sizes": Mistake(churn(region=churn()["region"][:1]), ("'churn'", "'region'"), "churn"),
    "an unknown output": Mistake(IRIS.example(), ("'iris'", "'nope'", "'label'"), call={"outputs": ["nope"]}),
    "an output twice": Mistake(IRIS.example(), ("'label'", "twice"), call={"outputs": ["label", "label"]}),
    "an unknown model": Mistake(IRIS.example(), ("'irish'",), "irish", "unknown"),
    "an unknown version": Mistake(IRIS.example(), ("'iris'", "'9'", "1, 2"), kind="unknown", call={"version": "9"}),
    "no version at all": Mistake(IRIS.example(), ("'iris'", "'new'"), kind="unknown", call={"version": "new"}),
    "no time": Mistake(IRIS.example(), ("'iris'", "deadline"), kind="overloaded", call={"more": {"timeout": 1}}),
}


@pytest.mark.parametrize("mistake", MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_explained_and_the_next_request_is_answered(client: Client, mistake: Mistake):
    with pytest.raises(InferenceServerException) as refusal:
        client.infer(mistake.model, mistake.inputs, **mistake.call)
    assert refusal.value.status() == client.status(mistake.kind), refusal.value
    for word in mistake.words:
        assert word in refusal.value.message()
    assert_same(client.answers("iris", IRIS.example()), IRIS.expected())


def test_what_is_not_there_is_not_ready(http_client: Client):
    """Over HTTP any status but 200 is a no."""
    assert not http_client.calls.is_model_ready("irish")
    assert not http_client.calls.is_model_ready("iris", "9")


def test_metadata_of_an_unknown_model_is_refused(client: Client):
    for arguments in (["irish"], ["iris", "9"]):
        with pytest.raises(InferenceServerException) as refusal:
            client.calls.get_model_metadata(*arguments)
        assert refusal.value.status() == client.status("unknown")
        assert f"'{arguments[0]}'" in refusal.value.message()
