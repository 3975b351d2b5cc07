import json
from shutil import copytree

import pytest

from fusmae.data.shards import ShardReader
from fusmae.data.verdict import require_verdict, write_verdict
from fusmae.errors import ExaminationError


def test_shards_that_were_examined_may_be_trained_on(tmp_path, shards):
    write_verdict(tmp_path / "verdict.json", shards)
    require_verdict(tmp_path / "verdict.json", shards)
    assert json.loads((tmp_path / "verdict.json").read_text())["is_fit"] is True


def test_without_a_verdict_training_does_not_start(tmp_path, shards):
    with pytest.raises(ExaminationError, match=r"has not passed(.|\n)*dvc repro examine"):
        require_verdict(tmp_path / "verdict.json", shards)


def test_a_verdict_on_other_shards_does_not_count(tmp_path, shards):
    copied = copytree(shards, tmp_path / "shards")
    write_verdict(tmp_path / "verdict.json", copied)
    manifest = copied / "manifest.json"
    manifest.write_text(json.dumps(json.loads(manifest.read_text())))
    assert len(ShardReader(copied, "train")) == 17
    with pytest.raises(ExaminationError, match="is of other shards than"):
        require_verdict(tmp_path / "verdict.json", copied)
