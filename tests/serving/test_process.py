"""`fusmae serve` as a person and a process manager meet it."""

import http.client
import json
import signal
import socket
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_a_request_in_the_house_is_answered_when_the_service_is_told_to_stop(processes, exported, npz, tmp_path):
    body = npz(exported.pixels(1))
    with processes.served(str(exported.path), tmp_path) as running:
        connection = socket.create_connection((running.client.base_url.host, running.client.base_url.port), timeout=60)
        connection.sendall(
            f"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-npz\r\n"
            f"Content-Length: {len(body)}\r\n\r\n".encode()
        )
        connection.sendall(body[:1000])
        processes.wait_for(lambda: running.client.metric("fusmae_requests_in_progress") == 1, "the request")
        running.process.send_signal(signal.SIGTERM)
        processes.wait_for(lambda: "Shutting down" in running.log.read_text(), "the signal")
        connection.sendall(body[1000:])
        answer = http.client.HTTPResponse(connection)
        answer.begin()
        assert answer.status == 200
        assert len(json.loads(answer.read())["probabilities"]) == 1
        running.process.wait(timeout=60)
        log = running.log.read_text()
    assert "Application shutdown complete" in log
    assert "Traceback" not in log


def fusmae(*arguments, cwd):
    return subprocess.run([sys.executable, "-m", "fusmae", *arguments], cwd=cwd, capture_output=True, text=True)


def test_a_reference_that_names_no_model_ends_with_one_paragraph(tmp_path):
    for model, wanted in (("none.onnx", "There is no file none.onnx"), ("a@b@c", "This is not a reference to a model")):
        done = fusmae("serve", "--model", model, cwd=tmp_path)
        assert done.returncode == 1
        assert done.stderr.startswith("fusmae: ")
        assert wanted in done.stderr
        assert "Traceback" not in done.stderr


def test_a_port_in_use_is_named(exported, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        done = fusmae("serve", "--model", str(exported.path), "--port", port, cwd=tmp_path)
    assert done.returncode == 1
    assert f"fusmae: 127.0.0.1:{port} can't be listened on" in done.stderr
    assert "next:     name another --port" in done.stderr


def test_listening_for_others_is_warned_of(processes, exported, tmp_path):
    with processes.served(str(exported.path), tmp_path, "--host", "0.0.0.0") as running:
        assert "asks for no password: put a proxy before it" in running.log.read_text()
    with processes.served(str(exported.path), tmp_path) as running:
        assert "password" not in running.log.read_text()


def test_help_has_an_example_and_every_option(tmp_path):
    printed = fusmae("serve", "--help", cwd=tmp_path).stdout
    assert "Example: fusmae serve --model fusmae@champion" in " ".join(printed.split())
    for option in ("--model", "--host", "--port", "--max-batch", "--max-requests", "--max-body-mb"):
        assert option in printed
