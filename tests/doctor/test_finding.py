import threading
import time

import pytest

from fusmae.doctor.finding import Finding, ask_all
from fusmae.runs.mlflow_address import without_secrets


def test_a_check_that_breaks_is_an_error_and_stops_no_other():
    def breaks():
        raise AttributeError("module 'torch' has no attribute 'nn'")

    broken, fine = ask_all({"a": breaks, "b": lambda: [Finding("b", "ok", "here")]}, (), 1)
    assert (broken.name, broken.status) == ("a", "error")
    assert broken.found == "AttributeError: module 'torch' has no attribute 'nn'"
    assert fine.status == "ok"


def test_machines_that_never_answer_are_waited_for_together_and_named():
    end = threading.Event()
    checks = {"here": lambda: [Finding("here", "ok", "")], **dict.fromkeys("abc", lambda: end.wait(60) and [])}
    began = time.monotonic()
    found = ask_all(checks, "abc", 0.5)
    assert time.monotonic() - began < 5
    end.set()
    assert [finding.name for finding in found] == ["here", "a", "b", "c"]
    assert {finding.found for finding in found[1:]} == {"no answer within 0.5 s"}
    assert all(finding.mend for finding in found[1:])


@pytest.mark.parametrize(
    "text",
    [
        "http://me:hunter2@host/api",
        "postgresql://me:hun/hunter2@x@host:5432/db refused",
        "https://host/x?token=hunter2&a=1",
        "postgresql://host/db?password=hunter2",
    ],
)
def test_user_password_and_token_are_left_out_wherever_they_stand(text):
    assert "hunter2" not in without_secrets(text)
    assert "host" in without_secrets(text)


def test_no_secret_is_left_in_any_part_of_a_finding():
    secret = "s3://key:hunter2@bucket"
    (found,) = ask_all({"a": lambda: [Finding("a", "error", secret, secret, secret)]}, (), 1)
    assert "hunter2" not in str(found)
