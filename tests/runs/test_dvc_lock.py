"""dvc.lock as a graph, and DVC's hashes."""

import subprocess
import sys
from pathlib import Path

import yaml

from fusmae.runs.dvc_lock import ancestors, broken_links, dvc_md5, read_lock

LOCK = """
schema: '2.0'
stages:
  export:
    deps:
    - {path: fusmae/a.py, md5: code}
    - {path: models/finetune, md5: weights.dir}
    params: {params.yaml: {export: {opset: 20}}}
    outs: [{path: models/export, md5: graph.dir}]
  finetune@pretrained:
    deps: [{path: data/shards, md5: shards.dir}]
    outs: [{path: models/finetune, md5: weights.dir}, {path: reports/runs/finetune.json, md5: run}]
  shard:
    deps: [{path: data/raw.json, md5: raw}]
    outs: [{path: data/shards, md5: shards.dir}]
  fetch:
    outs: [{path: data/raw.json, md5: raw}]
  probe:
    deps: [{path: data/shards, md5: shards.dir}]
    outs: [{path: models/probe, md5: probe.dir}]
"""


def test_ancestors_are_all_that_led_to_a_path_from_the_raw_data_on():
    found = ancestors(read_lock(LOCK), ["models/export"])
    assert [stage.name for stage in found] == ["fetch", "shard", "finetune@pretrained", "export"]
    assert (found[-1].code, found[-1].inputs) == ({"fusmae/a.py": "code"}, {"models/finetune": "weights.dir"})
    assert found[-1].params == {"export": {"opset": 20}}


def test_a_stage_that_read_something_else_than_was_made_is_named():
    assert broken_links(read_lock(LOCK).values()) == []
    reads = "finetune@pretrained:\n    deps: [{path: data/shards, md5: %s}]"
    stale = LOCK.replace(reads % "shards.dir", reads % "old.dir")
    (sentence,) = broken_links(read_lock(stale).values())
    assert sentence == "finetune@pretrained read data/shards as old.dir, which is shards.dir now"


def test_files_and_folders_have_the_hashes_that_dvc_gives_them(tmp_path):
    (tmp_path / "made" / "a-b").mkdir(parents=True)
    (tmp_path / "made" / "a").mkdir()
    for name in ("made/a-b/x.bin", "made/a/x.bin", "made/z.txt", "one.txt"):
        (tmp_path / name).write_text(name, encoding="utf-8")
    (tmp_path / "made" / "__pycache__").mkdir()
    (tmp_path / "made" / "__pycache__" / "x.pyc").write_text("of Python", encoding="utf-8")
    (tmp_path / ".dvcignore").write_text("__pycache__\n", encoding="utf-8")
    dvc = str(Path(sys.executable).with_name("dvc"))
    for arguments in (["init", "--no-scm", "-q"], ["add", "-q", "made", "one.txt"]):
        subprocess.run([dvc, *arguments], cwd=tmp_path, check=True)
    for name in ("made", "one.txt"):
        (out,) = yaml.safe_load((tmp_path / f"{name}.dvc").read_text())["outs"]
        assert dvc_md5(tmp_path / name) == out["md5"]
