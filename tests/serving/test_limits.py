import http.client
import json
import socket
from contextlib import closing

import numpy as np
import pytest

from fusmae.serving import limits

LIMIT_MB = 0.2


@pytest.fixture
def client(start):
    return start(max_body_mb=LIMIT_MB, max_requests=2)


def connected(client, timeout=30):
    return socket.create_connection((client.base_url.host, client.base_url.port), timeout=timeout)


def head(length, path="/predict"):
    return f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-npz\r\n{length}\r\n\r\n".encode()


def answer_of(connection):
    found = http.client.HTTPResponse(connection)
    found.begin()
    return found.status, found.headers, json.loads(found.read())


def in_progress(client):
    return client.metric("fusmae_requests_in_progress")


def test_a_body_that_states_too_much_is_refused_before_it_comes(client):
    with closing(connected(client)) as connection:
        connection.sendall(head("Content-Length: 1000000000000"))
        status, headers, refusal = answer_of(connection)
    assert status == 413
    assert refusal["error"] == "BodyTooLarge"
    assert "0.2 MB" in refusal["text"]
    assert headers["connection"] == "close"


def test_a_body_without_a_length_is_refused_once_it_is_too_large(client):
    with closing(connected(client)) as connection:
        connection.sendall(head("Transfer-Encoding: chunked"))
        for _ in range(3):  # the end never comes
            connection.sendall(b"186a0\r\n" + bytes(100_000) + b"\r\n")
        status, _, refusal = answer_of(connection)
    assert (status, refusal["error"]) == (413, "BodyTooLarge")


def test_who_sends_all_before_reading_sees_the_refusal_too(client):
    answer = client.post("/predict", content=bytes(30_000_000))
    assert answer.status_code == 413
    assert client.get("/health").status_code == 200


def test_an_expecting_client_is_refused_without_sending(client):
    with closing(connected(client)) as connection:
        connection.sendall(head("Content-Length: 1000000\r\nExpect: 100-continue"))
        assert answer_of(connection)[0] == 413


def test_geotiffs_have_the_same_limit(client):
    answer = client.post("/predict/geotiff", files=[("s1", ("s1.tif", bytes(300_000)))])
    assert answer.status_code == 413


def test_a_full_house_says_when_to_come_back_and_forgets_nobody(client, npz, exported, processes):
    body = npz(exported.pixels(1))
    early = [connected(client), connected(client)]
    for connection in early:  # in progress: their bodies are on the way
        connection.sendall(head(f"Content-Length: {len(body)}") + body[:1000])
    processes.wait_for(lambda: in_progress(client) == 2, "two requests in progress")
    refused = client.ask(exported.pixels(1))
    assert refused.status_code == 503
    assert refused.headers["retry-after"] == "1"
    assert refused.json()["error"] == "Overloaded"
    assert client.get("/health").status_code == 200
    for connection in early:
        connection.sendall(body[1000:])
        status, _, found = answer_of(connection)
        assert status == 200
        np.testing.assert_allclose(
            found["probabilities"], exported.session.run(exported.pixels(1))["probabilities"], atol=1e-6
        )
        connection.close()
    processes.wait_for(lambda: in_progress(client) == 0, "no request")
    assert client.ask(exported.pixels(1)).status_code == 200


def test_a_client_that_goes_leaves_its_place(client, processes):
    with closing(connected(client)) as connection:
        connection.sendall(head("Content-Length: 1000") + b"half")
        processes.wait_for(lambda: in_progress(client) == 1, "a request in progress")
    processes.wait_for(lambda: in_progress(client) == 0, "no request")


def test_a_body_that_does_not_come_loses_its_place(client, monkeypatch):
    monkeypatch.setattr(limits, "_BODY_S", 0.2)
    monkeypatch.setattr("fusmae.serving.limits._LINGER_S", 0.2)
    with closing(connected(client)) as connection:
        connection.sendall(head("Content-Length: 1000") + b"half")
        status, _, refusal = answer_of(connection)
    assert (status, refusal["error"]) == (408, "BodyTooSlow")


def test_refusals_are_counted(client):
    client.post("/predict", content=bytes(300_000))
    client.get("/nowhere")
    assert client.metric('fusmae_requests_total{route="/predict",status="413"}') == 1
    assert client.metric('fusmae_requests_total{route="other",status="404"}') == 1
