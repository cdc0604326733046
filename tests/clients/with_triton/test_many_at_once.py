"""Many requests in flight: batches are formed from strangers' rows, and everyone gets their own back.

tritonclient.http waits 10 ms after each `async_infer`, so it never has many; the others have them all.
"""

from collections.abc import Iterable

import numpy as np
import pytest
from tritonclient.utils import InferenceServerException

import samples
from samples import SAMPLES, Arrays, Sample, assert_same
from triton_clients import Call, Client

REQUESTS = 200


def test_every_request_to_one_model_gets_its_own_answer(client: Client):
    digits = samples.sample("digits")
    compare(client, [(digits, 1 + seed % 8, seed) for seed in range(REQUESTS)])


def test_requests_to_all_models_at_once_do_not_mix(client: Client):
    compare(client, [(SAMPLES[seed % len(SAMPLES)], 1 + seed % 3, seed) for seed in range(REQUESTS)])


MISTAKES = {
    "refused at once": samples.sample("iris").example(),
    "refused by the model": {"text": np.array([b"\xff is not UTF-8"], np.object_)},
}


@pytest.mark.parametrize("mistake", MISTAKES.values(), ids=MISTAKES)
def test_a_bad_request_does_not_spoil_those_it_comes_with(client: Client, mistake: Arrays):
    tickets, bad = samples.sample("tickets"), Call("tickets", mistake)
    good = [tickets.random(2, seed) for seed in range(50)]
    outcomes = client.many([call for inputs in good for call in (Call("tickets", inputs), bad)])
    assert all(isinstance(outcome, InferenceServerException) for outcome in outcomes[1::2])
    for inputs, answer in zip(good, outcomes[::2], strict=True):
        assert_same(answer, tickets.answer(inputs))


def compare(client: Client, wanted: Iterable[tuple[Sample, int, int]]) -> None:
    given = [(sample, sample.random(rows, seed)) for sample, rows, seed in wanted]
    found = client.many([Call(sample.name, inputs, sample.version) for sample, inputs in given])
    for (sample, inputs), answer in zip(given, found, strict=True):
        assert not isinstance(answer, Exception), f"{sample}: {answer}"
        assert_same(answer, sample.answer(inputs))
