"""Parity is checked on each device; on a machine without a GPU the report is what the CPU's check gave."""

import pytest

from fusmae.errors import ExportError
from fusmae.inference.session import Session
from fusmae.release.export import graph
from fusmae.release.export.graph import on_every_device

ROW = {"modalities": ["s1", "s2"], "batch_size": 1, "max_abs_error": 1e-6}


@pytest.fixture
def pretended_gpu(monkeypatch):
    """A second session of a graph says that a GPU runs it."""

    def open_graph(path, device):
        session = Session(path)
        session.device = {"auto": "cuda"}[device]
        return session

    monkeypatch.setattr(graph, "Session", open_graph)


def check(session):
    error = {"cpu": 1e-6, "cuda": 3e-5}[session.device]
    return {"num_pairs": 6, "max_abs_error_allowed": 1e-4, "checks": [ROW | {"max_abs_error": error}]}


def test_without_a_gpu_the_report_is_that_of_the_cpu_alone(exported):
    session = Session(exported.path)
    if Session(exported.path, device="auto").device != "cpu":
        pytest.skip("this machine has a GPU")
    assert on_every_device(session, check) == check(session)


def test_rows_of_a_gpu_follow_and_name_their_provider(exported, pretended_gpu):
    report = on_every_device(Session(exported.path), check)
    assert report["num_pairs"] == 6
    assert report["checks"] == [ROW, ROW | {"max_abs_error": 3e-5, "provider": "CUDAExecutionProvider"}]


def test_a_gpu_whose_results_differ_fails_the_export_and_is_named(exported, pretended_gpu):
    def differs(session):
        if session.device == "cuda":
            raise ExportError("ONNX and torch differ on s1+s2 at batch size 3.", got=0.1)
        return check(session)

    with pytest.raises(ExportError, match=r"With CUDAExecutionProvider: ONNX and torch differ on s1\+s2"):
        on_every_device(Session(exported.path), differs)
