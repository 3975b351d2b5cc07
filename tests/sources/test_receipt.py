"""The receipt follows files that a user brings: changed ones are seen, read again, and refused until they are named."""

import pytest
import typer

from fusmae.cli import project as command
from fusmae.cli.project import CHANGED
from fusmae.config.params import parse_config
from fusmae.errors import SourceError
from fusmae.files import write_json
from fusmae.sources import open_source
from fusmae.sources.receipt import is_as_received, receipt_of, require_as_received


@pytest.fixture
def params(monkeypatch, tmp_path):
    """params.yaml with a user's own data; two pairs of them in data/raw/folder, and their receipt."""
    from tests.config.test_params import composed

    monkeypatch.chdir(tmp_path)
    config = parse_config(composed("data=folder"), "composed")
    folder = tmp_path / "data/raw/folder"
    for side in ("s1", "s2"):
        (folder / side).mkdir(parents=True)
        for key in ("one", "two"):
            (folder / side / f"{key}.tif").write_bytes(f"{side} {key}".encode())
    (folder / "pairs.csv").write_text("key,labels\none,water\ntwo,land\n", encoding="utf-8")
    source = config.data.source
    files = open_source(source.name, source.settings).fetch(tmp_path, folder)
    write_json(tmp_path / "data/raw.json", receipt_of(config.data, files))
    return config


CHANGES = {
    "a new pair": lambda folder: [(folder / side / "three.tif").write_bytes(b"new") for side in ("s1", "s2")],
    "other pixels": lambda folder: (folder / "s1/one.tif").write_bytes(b"as long"),
    "pixels of the same size": lambda folder: (folder / "s1/one.tif").write_bytes(b"S1 one"),
    "a pair that is gone": lambda folder: [(folder / side / "two.tif").unlink() for side in ("s1", "s2")],
    "another name": lambda folder: (folder / "s1/one.tif").rename(folder / "s1/uno.tif"),
    "other labels": lambda folder: (folder / "pairs.csv").write_text("key,labels\none,land\ntwo,land\n"),
}


def both(tmp_path):
    return tmp_path / "data/raw/folder", tmp_path / "data/raw.json"


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_whatever_changes_is_seen_and_refused(params, tmp_path, change):
    folder, receipt = both(tmp_path)
    require_as_received(params.data, folder, receipt)
    change(folder)
    assert not is_as_received(params.data, folder, receipt)
    with pytest.raises(SourceError, match=r"is not what .*raw\.json names(.|\n)*next:     fusmae update"):
        require_as_received(params.data, folder, receipt)


def test_a_copy_with_other_times_is_the_same_data(params, tmp_path):
    folder, receipt = both(tmp_path)
    for path in folder.rglob("*.tif"):
        path.write_bytes(path.read_bytes())
    assert is_as_received(params.data, folder, receipt)


def test_what_was_fetched_is_not_looked_at(tmp_path):
    from tests.config.test_params import composed

    config = parse_config(composed("data=bigearthnet"), "composed")
    assert is_as_received(config.data, tmp_path / "none", tmp_path / "none.json")


@pytest.fixture
def ran(monkeypatch):
    """What `dvc` was called with."""
    calls = []
    monkeypatch.setattr(command, "_dvc", lambda *arguments: calls.append(" ".join(arguments)) or 0)
    return calls


@pytest.fixture
def update(monkeypatch, ran):
    """Runs `fusmae update` with these parameters; its exit code."""
    monkeypatch.setattr(command, "begin", lambda _: None)

    def run(config, **options):
        monkeypatch.setattr(command, "load_params", lambda: config)
        with pytest.raises(typer.Exit) as ended:
            command.update(**options)
        return ended.value.exit_code

    return run


def test_update_runs_fetch_anew_only_where_files_have_changed(params, tmp_path, ran, update):
    paths = {"raw": tmp_path / "data/raw", "receipt": tmp_path / "data/raw.json"}
    assert update(params, **paths, check=True) == 0
    assert update(params, **paths, check=False) == 0
    assert ran == ["repro"]
    CHANGES["a new pair"](tmp_path / "data/raw/folder")
    assert update(params, **paths, check=True) == CHANGED
    assert update(params, **paths, check=False) == 0
    assert ran == ["repro", "repro --force --single-item fetch", "repro"]


def test_update_leaves_it_to_stage_fetch_to_say_what_is_wrong(params, tmp_path, update):
    (tmp_path / "data/raw/folder/pairs.csv").unlink()
    paths = {"raw": tmp_path / "data/raw", "receipt": tmp_path / "data/raw.json"}
    assert update(params, **paths, check=True) == CHANGED


def test_update_of_data_that_were_fetched_reads_them_anew(tmp_path, ran, update):
    from tests.config.test_params import composed

    config = parse_config(composed("data=bigearthnet"), "composed")
    receipt = tmp_path / "raw.json"
    update(config, raw=tmp_path, receipt=receipt, check=False)
    receipt.touch()
    update(config, raw=tmp_path, receipt=receipt, check=False)
    assert ran == ["repro", "repro --force --single-item index shard", "repro"]
