"""Passwords in the tracking server's address reach MLflow, and nothing that is shown."""

import os

import pytest

from fusmae.errors import RegistryError
from fusmae.runs.mlflow_address import shown_uri, tracking_uri
from fusmae.runs.mlflow_store import connect


@pytest.fixture(autouse=True)
def _own_variables(monkeypatch):
    for name in ("MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"):
        monkeypatch.setenv(name, "as it was")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")


@pytest.mark.parametrize("password", ["secret", "s%40cr%2Fet", "", "x:secret"])
def test_the_address_given_to_mlflow_has_no_password(monkeypatch, password):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"https://someone:{password}@host:5000/mlflow?x=1")
    assert tracking_uri() == shown_uri() == "https://host:5000/mlflow?x=1"


@pytest.mark.parametrize("uri", ["https://host:5000/a@b", "http://127.0.0.1:5000", "sqlite+pysqlite:////tmp/a%40b.db"])
def test_an_address_without_a_password_stays_as_it_is(monkeypatch, uri):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    assert tracking_uri() == uri


def test_mlflow_gets_user_and_password_by_its_own_variables(monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://some%40one:s%2Fecret@127.0.0.1:9")
    with pytest.raises(RegistryError):
        connect()
    assert (os.environ["MLFLOW_TRACKING_USERNAME"], os.environ["MLFLOW_TRACKING_PASSWORD"]) == ("some@one", "s/ecret")


def test_variables_that_are_set_stay_where_the_address_has_no_password(monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    with pytest.raises(RegistryError):
        connect()
    assert os.environ["MLFLOW_TRACKING_PASSWORD"] == "as it was"


@pytest.mark.parametrize("password", ["secret", "a/secret", "a@secret", "a?secret#", "[secret"])
def test_no_error_shows_a_password_however_it_is_written(monkeypatch, password):
    for scheme in ("postgresql", "http"):
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"{scheme}://someone:{password}@127.0.0.1:9/mlflow")
        with pytest.raises(RegistryError) as raised:
            connect()
        assert "secret" not in str(raised.value)
        assert "secret" not in shown_uri()
