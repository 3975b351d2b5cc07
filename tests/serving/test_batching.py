import asyncio
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from fusmae.release.registry.model_file import ModelFile
from fusmae.serving.batching import Batcher
from fusmae.serving.loaded import LoadedModel
from fusmae.serving.metrics import Metrics

BOTH = ("s1", "s2")


class Counting:
    """The session itself, noting what runs together."""

    def __init__(self, session, shift=0.0):
        self._session = session
        self._shift = shift
        self.calls = []

    def run(self, pixels, modalities):
        self.calls.append((len(next(iter(pixels.values()))), modalities))
        found = self._session.run(pixels, modalities)
        return {"probabilities": found["probabilities"] + np.float32(self._shift)}


def loaded(exported, shift=0.0):
    return LoadedModel(ModelFile(exported.path, "0"), Counting(exported.session, shift))


def run(limits, asked, **changes):
    """What each of (model, pixels, modalities) is answered, asked all at once."""

    async def ask():
        batcher = Batcher(limits(**changes), Metrics())
        batcher.start()
        try:
            return await asyncio.gather(*(batcher.probabilities(*one) for one in asked), return_exceptions=True)
        finally:
            await batcher.stop()

    return asyncio.run(ask())


def test_requests_at_once_run_together_and_each_gets_its_own_answer(exported, limits):
    model = loaded(exported)
    asked = [(model, exported.pixels(1 + number % 2, seed=number), BOTH) for number in range(5)]
    answers = run(limits, asked)
    assert model.session.calls == [(7, BOTH)]
    for (_, pixels, _), answer in zip(asked, answers, strict=True):
        np.testing.assert_allclose(answer, exported.session.run(pixels)["probabilities"], atol=1e-5)


def test_no_batch_is_larger_than_the_limit_and_none_is_lost(exported, limits):
    model = loaded(exported)
    answers = run(limits, [(model, exported.pixels(3, seed=number), BOTH) for number in range(5)])
    assert [size for size, _ in model.session.calls] == [6, 6, 3]
    assert [len(answer) for answer in answers] == [3] * 5


def test_a_request_finishes_on_the_model_it_came_for(exported, limits):
    old, new = loaded(exported), loaded(exported, shift=10.0)
    pixels = exported.pixels(1)
    first, second, third = run(limits, [(old, pixels, BOTH), (new, pixels, BOTH), (old, pixels, BOTH)])
    assert first.max() < 1
    assert second.min() > 9
    np.testing.assert_array_equal(first, third)
    assert [size for size, _ in old.session.calls] == [2]


def test_tiles_without_a_modality_run_apart(exported, limits):
    model = loaded(exported)
    pixels = exported.pixels(1)
    only = {"s1_10m": pixels["s1_10m"]}
    both, alone = run(limits, [(model, pixels, BOTH), (model, only, ("s1",))])
    assert model.session.calls == [(1, BOTH), (1, ("s1",))]
    np.testing.assert_allclose(alone, exported.session.run(only)["probabilities"], atol=1e-6)
    assert np.abs(both - alone).max() > 1e-6


def test_a_batch_that_fails_is_told_to_its_clients_and_the_queue_goes_on(exported, limits):
    model, broken = loaded(exported), loaded(exported)
    broken.session.run = lambda pixels, modalities: 1 / 0
    pixels = exported.pixels(1)
    failed, answered = run(limits, [(broken, pixels, BOTH), (model, pixels, BOTH)])
    assert isinstance(failed, ZeroDivisionError)
    assert answered.shape == (1, 3)


def test_a_client_that_is_gone_does_not_stop_the_others(exported, limits):
    model = loaded(exported)

    async def ask():
        batcher = Batcher(limits(), Metrics())
        gone = asyncio.create_task(batcher.probabilities(model, exported.pixels(1), BOTH))
        await asyncio.sleep(0)
        gone.cancel()
        batcher.start()
        answer = await batcher.probabilities(model, exported.pixels(1), BOTH)
        await batcher.stop()
        return answer

    assert asyncio.run(ask()).shape == (1, 3)


def test_clients_of_the_service_share_batches(start, exported):
    # A batch starts when it is full, so that the long wait passes only where clients don't come together.
    client = start(max_batch=4, max_wait_ms=2000)
    asked = [exported.pixels(1, seed=number) for number in range(8)]
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda pixels: client.ask(pixels).json(), asked))
    assert client.metric("fusmae_batch_tiles_sum") == 8
    assert client.metric("fusmae_batch_tiles_count") == 2
    for pixels, answer in zip(asked, answers, strict=True):
        alone = exported.session.run(pixels)["probabilities"]
        np.testing.assert_allclose(answer["probabilities"], alone, atol=1e-5)
    assert client.metric("fusmae_queue_tiles") == 0


@pytest.mark.parametrize("wait", [0.0, 5.0])
def test_a_lone_request_is_answered(start, exported, wait):
    client = start(max_wait_ms=wait)
    assert client.ask(exported.pixels(1)).status_code == 200
