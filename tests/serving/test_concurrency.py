"""Requests at the same time: each gets its own answer, whatever happens to the others."""

from concurrent.futures import ThreadPoolExecutor
from threading import Event

import numpy as np
import pytest

from fusmae.inference.session import Session


def ask_all(client, asked):
    with ThreadPoolExecutor(len(asked)) as pool:
        return list(pool.map(client.ask, asked))


def test_requests_at_once_each_get_their_own_answer(start, exported):
    client = start(max_batch=4)
    asked = [exported.pixels(1 + number % 3, seed=number) for number in range(8)]
    for pixels, answer in zip(asked, ask_all(client, asked), strict=True):
        expected = exported.session.run(pixels)["probabilities"]
        np.testing.assert_allclose(answer.json()["probabilities"], expected, atol=1e-5)
    assert client.metric("fusmae_request_tiles_count") == 8
    assert client.metric("fusmae_request_tiles_sum") == sum(1 + number % 3 for number in range(8))
    assert client.metric("fusmae_requests_in_progress") == 0


def test_a_request_alone_uses_all_cores_and_one_beside_another_uses_one(start, exported, monkeypatch):
    first_runs, second_runs, own, calls = Event(), Event(), Session.run, []

    def run(session, pixels, modalities=None, *, outputs=None, on_one_core=False):
        calls.append(on_one_core)
        first_runs.set()
        if len(calls) == 1:
            assert second_runs.wait(30)
        second_runs.set()
        return own(session, pixels, modalities, outputs=outputs, on_one_core=on_one_core)

    monkeypatch.setattr("fusmae.serving.app.os.cpu_count", lambda: 2)
    client = start()
    monkeypatch.setattr(Session, "run", run)
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(client.ask, exported.pixels(1))
        assert first_runs.wait(30)
        assert client.ask(exported.pixels(2)).status_code == 200
        assert first.result().status_code == 200
    assert client.ask(exported.pixels(1)).status_code == 200
    assert calls == [False, True, False]


def test_tiles_without_a_modality_are_answered_beside_others(client, exported):
    pixels = exported.pixels(1)
    only = {"s1_10m": pixels["s1_10m"]}
    both, alone = ask_all(client, [pixels, only])
    assert both.json()["modalities"] == ["s1", "s2"]
    assert alone.json()["modalities"] == ["s1"]
    expected = exported.session.run(only)["probabilities"]
    np.testing.assert_allclose(alone.json()["probabilities"], expected, atol=1e-5)


def test_a_run_that_fails_is_its_own_client_s_alone(client, exported, monkeypatch):
    own = Session.run

    def run(session, pixels, modalities=None, **how):
        return 1 / 0 if len(pixels["s1_10m"]) == 2 else own(session, pixels, modalities, **how)

    monkeypatch.setattr(Session, "run", run)
    failed, answered = ask_all(client, [exported.pixels(2), exported.pixels(1)])
    assert (failed.status_code, answered.status_code) == (500, 200)
    assert failed.json()["error"] == "ServiceError"
    assert client.ask(exported.pixels(1)).status_code == 200


@pytest.mark.parametrize("num_tiles", [1, 3, 8])
def test_one_core_computes_what_all_cores_compute(exported, num_tiles):
    pixels, session = exported.pixels(num_tiles), Session(exported.path, 2)
    found, expected = (session.run(pixels, on_one_core=one)["probabilities"] for one in (True, False))
    np.testing.assert_allclose(found, expected, atol=1e-6)
