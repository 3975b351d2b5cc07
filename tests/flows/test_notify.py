"""A message to a webhook that can't be reached is a warning in the run's log, and raises nothing."""

import logging
import socket
from types import SimpleNamespace

import pytest
from prefect.blocks.notifications import CustomWebhookNotificationBlock

from flows import notify
from flows.notify import send, tell


@pytest.fixture
def closed_port():
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield held.getsockname()[1]


@pytest.fixture
def log(monkeypatch, caplog):
    """What the run's log gets."""
    logger = logging.getLogger("run")
    monkeypatch.setattr(notify, "get_run_logger", lambda: logger)
    monkeypatch.setattr(notify, "flow_run_logger", lambda flow_run, flow: logger)
    return caplog


@pytest.fixture(params=["send", "tell"])
def message(request):
    """Both ways to a webhook: by hand, and as a hook of a failed flow."""
    if request.param == "send":
        return lambda: send("no new raw data", "there are none")
    flow, run = SimpleNamespace(name="pretrain"), SimpleNamespace(name="quick-fox", id="0b6a8dd8")
    return lambda: tell(flow, run, SimpleNamespace(name="Failed", message="stage pretrain failed"))


def test_a_webhook_that_can_t_be_reached_is_a_warning_without_its_address(message, log, closed_port, monkeypatch):
    block = CustomWebhookNotificationBlock(
        name="fusmae", url=f"http://127.0.0.1:{closed_port}/secret", json_data={"text": "{{subject}}: {{body}}"}
    )
    monkeypatch.setattr(CustomWebhookNotificationBlock, "load", lambda name: block)
    message()
    assert {record.levelname for record in log.records if record.name == "run"} == {"WARNING"}
    assert "did not get this message (ConnectError)" in log.text
    assert "secret" not in log.text


def test_a_server_that_can_t_be_asked_for_the_block_is_a_warning(message, log, monkeypatch):
    def load(name):
        raise ConnectionError

    monkeypatch.setattr(CustomWebhookNotificationBlock, "load", load)
    message()
    assert "did not get this message (ConnectionError)" in log.text


def test_without_the_block_nothing_is_sent_or_logged(log, monkeypatch):
    def load(name):
        raise ValueError("Unable to find block document named fusmae")

    monkeypatch.setattr(CustomWebhookNotificationBlock, "load", load)
    tell(SimpleNamespace(name="f"), SimpleNamespace(name="r", id="1"), SimpleNamespace(name="Failed", message=""))
    assert not log.records
