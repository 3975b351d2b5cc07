"""What a command does before its work."""

import os

import pytest

from fusmae.cli import call
from fusmae.cli.call import begin
from fusmae.errors import ConfigError

PATIENCE = ("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "MLFLOW_HTTP_REQUEST_TIMEOUT")


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    """An environment without a word on patience and proxies, brought back afterwards."""
    for name in (*PATIENCE, "http_proxy", "no_proxy", "NO_PROXY"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    monkeypatch.setattr(call, "keep_freed_memory", lambda: None)  # allocators of the whole test process
    return monkeypatch


def test_a_model_that_is_looked_up_is_named_and_a_file_is_not(capsys):
    begin("predict", looks_up="fusmae@champion")
    assert capsys.readouterr().err == "looking up fusmae@champion in the registry\n"
    begin("predict", looks_up="model.onnx")
    begin("summary")
    assert capsys.readouterr().err == ""


def test_a_registry_that_is_down_is_answered_soon_unless_the_environment_says_otherwise(environment):
    environment.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "300")
    begin("ledger", looks_up="fusmae")
    assert [os.environ[name] for name in PATIENCE] == ["2", "300"]


def test_servers_on_this_machine_are_asked_past_the_proxy(environment):
    environment.setenv("http_proxy", "http://proxy:3128")
    begin("ui")
    assert os.environ["no_proxy"] == "localhost,127.0.0.1,::1"


def test_a_missing_package_is_named_before_the_registry_is_asked(environment, capsys):
    environment.setattr(call, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="fusmae embed"):
        begin("embed", looks_up="fusmae@champion")
    assert capsys.readouterr().err == ""
