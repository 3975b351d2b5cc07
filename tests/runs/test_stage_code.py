"""A cut-off run goes on after changes of code that can't change its result, and after no others."""

import shutil
from pathlib import Path

import pytest

import fusmae.runs.provenance as module
from fusmae.runs.provenance import stage_code

ROOT = Path(__file__).parents[2]


@pytest.fixture
def package(tmp_path, monkeypatch):
    """The package's code, which a test may change."""
    folder = tmp_path / "fusmae"
    shutil.copytree(ROOT / "fusmae", folder, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(module, "PACKAGE", folder)
    return folder


def pretraining():
    return stage_code("pretrain", ROOT / "dvc.yaml")


def sharding(source="sample"):
    return stage_code("shard", ROOT / "dvc.yaml", source=source)


UNRELATED = ["config/gate.py", "reports/page.py", "serving/app.py", "sources/sen12ms/source.py", "errors.py"]


@pytest.mark.parametrize("file", UNRELATED)
def test_a_comment_elsewhere_leaves_shards_and_a_cut_off_pretraining_valid(package, file):
    before = pretraining(), sharding()
    with (package / file).open("a", encoding="utf-8") as opened:
        opened.write("# a comment\n")
    assert (pretraining(), sharding()) == before


@pytest.mark.parametrize("file", ["models/encoder.py", "training/optim.py", "data/datamodule.py", "stages/pretrain.py"])
def test_a_change_in_what_trains_begins_a_pretraining_anew(package, file):
    before = pretraining()
    with (package / file).open("a", encoding="utf-8") as opened:
        opened.write("# a comment\n")
    after = pretraining()
    assert {path for path in after if after[path] != before[path]} == {f"fusmae/{file}"}


def test_only_the_source_in_use_counts(package):
    (package / "sources" / "sample" / "source.py").write_text("", encoding="utf-8")
    assert sharding("sample")["fusmae/sources/sample/source.py"]
    assert not [path for path in sharding("sen12ms") if path.startswith("fusmae/sources/sample")]


def test_caches_of_python_and_other_files_do_not_count(package):
    before = pretraining()
    (package / "models" / "__pycache__").mkdir()
    (package / "models" / "__pycache__" / "encoder.pyc").write_bytes(b"x")
    (package / "models" / "notes.md").write_text("x", encoding="utf-8")
    assert pretraining() == before


@pytest.mark.parametrize("text", [None, "stages: {}"])
def test_without_the_stage_in_dvc_yaml_all_code_counts(package, tmp_path, text):
    if text:
        (tmp_path / "dvc.yaml").write_text(text, encoding="utf-8")
    found = stage_code("pretrain", tmp_path / "dvc.yaml")
    assert set(found) == {path.relative_to(tmp_path).as_posix() for path in package.rglob("*.py")}
