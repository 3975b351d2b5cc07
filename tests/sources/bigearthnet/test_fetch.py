import io
import tarfile
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from hashlib import md5
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from fusmae.errors import SourceError
from fusmae.sources.bigearthnet import source as bigearthnet
from fusmae.sources.bigearthnet.source import BigEarthNetSource
from fusmae.sources.patches import v2
from fusmae.sources.transfer.fetch import PROVIDED
from fusmae.sources.transfer.remote import Archive, DownloadOptions, RemoteFile
from tests.web import FolderHandler, web_server


@pytest.fixture
def asked() -> list[str]:
    """The paths that were asked for at `served`."""
    return []


@pytest.fixture
def served(tmp_path: Path, asked: list[str]) -> Iterator[tuple[Path, str]]:
    """An empty folder, and the address at which it is served."""
    folder = tmp_path / "served"
    folder.mkdir()
    with web_server(partial(FolderHandler, asked=asked, directory=folder)) as server:
        yield folder, server.address


def packed(raw: Path, name: str) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        tar.add(raw / name, name)
    return buffer.getvalue()


def put(folder: Path, address: str, name: str, content: bytes) -> RemoteFile:
    (folder / name).write_bytes(content)
    return RemoteFile(name, f"{address}/{name}", md5(content).hexdigest())


@pytest.fixture
def small_v2(v2_raw: Path, served, monkeypatch: pytest.MonkeyPatch) -> None:
    """v2's addresses lead to the sample's 24 pairs; the archives are split into parts as the real ones are."""
    folder, address = served
    table = put(folder, address, v2.TABLE, (v2_raw / v2.TABLE).read_bytes())
    made = []
    for archive in bigearthnet.V2_ARCHIVES:
        content = packed(v2_raw, archive.makes)
        step = -(-len(content) // len(archive.parts))
        pieces = [content[start : start + step] for start in range(0, len(content), step)]
        parts = [put(folder, address, part.name, piece) for part, piece in zip(archive.parts, pieces, strict=True)]
        made.append(replace(archive, parts=tuple(parts)))
    monkeypatch.setattr(bigearthnet, "V2_TABLE", table)
    monkeypatch.setattr(bigearthnet, "V2_ARCHIVES", tuple(made))


def patches_in(raw: Path) -> set[str]:
    return {folder.name for folder in raw.glob("BigEarthNet-S[12]/*/*")}


def test_v2_is_fetched_unpacked_and_read(small_v2, tmp_path: Path):
    source, raw = BigEarthNetSource(2, [], snow_and_clouds=False), tmp_path / "raw"
    sums = source.fetch(tmp_path / "downloads", raw)
    parts = [part for archive in bigearthnet.V2_ARCHIVES for part in archive.parts]
    assert sums == {file.name: f"md5:{file.md5}" for file in (bigearthnet.V2_TABLE, *parts)}
    pairs = source.pairs(raw)
    for pair in pairs:
        source.read(raw, pair)
        source.read_map(raw, pair)
    # Without a choice of countries the archives are unpacked whole.
    assert len(patches_in(raw)) == 48
    assert source.fetch(tmp_path / "downloads", raw) == sums


def test_of_v2_only_the_chosen_countries_are_unpacked(small_v2, v2_raw: Path, tmp_path: Path):
    country = BigEarthNetSource(2, [], snow_and_clouds=False).pairs(v2_raw)[0].country
    source, raw = BigEarthNetSource(2, [country], snow_and_clouds=False), tmp_path / "raw"
    sums = source.fetch(tmp_path / "downloads", raw)
    assert sums["countries"] == country
    pairs = source.pairs(raw)
    assert patches_in(raw) == {Path(side).name for pair in pairs for side in pair.files.values()}
    assert {folder.name for folder in raw.glob("Reference_Maps/*/*")} == {pair.key for pair in pairs}
    for pair in pairs:
        source.read(raw, pair)
        source.read_map(raw, pair)


def fetch(folder: Path, *countries: str, snow_and_clouds: bool = False) -> set[str]:
    """The patches of `folder` after these countries were chosen; both sides of every pair of theirs can be read."""
    source, raw = BigEarthNetSource(2, countries, snow_and_clouds=snow_and_clouds), folder / "raw"
    source.fetch(folder / "downloads", raw)
    for pair in source.pairs(raw):
        source.read(raw, pair)
    return patches_in(raw)


def test_one_country_leaves_the_whole_data_set_as_it_is(small_v2, v2_raw: Path, tmp_path: Path, asked: list[str]):
    country = BigEarthNetSource(2, [], snow_and_clouds=False).pairs(v2_raw)[0].country
    everything = fetch(tmp_path)
    assert len(everything) == 48
    inodes = [(tmp_path / "raw" / name).stat().st_ino for name in v2.FOLDERS.values()]
    asked.clear()
    assert fetch(tmp_path, country) == everything
    assert fetch(tmp_path) == everything
    assert asked == []
    assert [(tmp_path / "raw" / name).stat().st_ino for name in v2.FOLDERS.values()] == inodes


def test_another_country_is_fetched_with_the_one_before(
    small_v2, v2_raw: Path, tmp_path: Path, asked: list[str], monkeypatch
):
    first, second, raw = "Austria", "Belgium", tmp_path / "raw"
    raw.mkdir()
    monkeypatch.setattr(v2, "V2_COUNTRIES_OF_TILE", {})
    # The sample's clear pairs are of one country; a table that is there is not fetched.
    table = pd.read_parquet(v2_raw / v2.TABLE)
    table.assign(country=[(first, second)[row % 2] for row in range(len(table))]).to_parquet(raw / v2.TABLE)
    before = fetch(tmp_path, first)
    asked.clear()
    both = fetch(tmp_path, second, first)
    assert before < both
    assert both == {*table["patch_id"], *table["s1_name"]}
    assert asked
    asked.clear()
    assert fetch(tmp_path, second) == both
    assert asked == []


def test_clear_pairs_are_among_those_with_snow_and_clouds_but_not_the_other_way_round(
    small_v2, v2_raw: Path, tmp_path: Path, asked: list[str]
):
    pairs = BigEarthNetSource(2, [], snow_and_clouds=True).pairs(v2_raw)
    flagged = {pair.country for pair in pairs if pair.is_snowy or pair.is_cloudy}
    country = min(flagged & {pair.country for pair in pairs if not (pair.is_snowy or pair.is_cloudy)})
    (tmp_path / "raw").mkdir()
    (tmp_path / "raw" / v2.FLAGGED_TABLE).write_bytes((v2_raw / v2.FLAGGED_TABLE).read_bytes())
    clear = fetch(tmp_path, country)
    asked.clear()
    both = fetch(tmp_path, country, snow_and_clouds=True)
    assert clear < both
    assert asked
    asked.clear()
    assert fetch(tmp_path, country) == both
    assert fetch(tmp_path, country, snow_and_clouds=True) == both
    assert asked == []


def test_an_unknown_country_stops_before_the_archives(small_v2, tmp_path: Path):
    with pytest.raises(SourceError, match="no country Atlantis"):
        BigEarthNetSource(2, ["Atlantis"], snow_and_clouds=False).fetch(tmp_path / "downloads", tmp_path / "raw")
    assert not list((tmp_path / "raw").glob("BigEarthNet*"))


def test_a_table_that_contradicts_itself_stops_before_the_archives(small_v2, v2_raw: Path, tmp_path: Path, asked):
    raw = tmp_path / "raw"
    raw.mkdir()
    table = pd.read_parquet(v2_raw / v2.TABLE)
    table.assign(s1_name=np.roll(table["s1_name"], 1)).to_parquet(raw / v2.TABLE)
    with pytest.raises(SourceError, match=rf"{len(table)} of {len(table)} rows have an s1_name of another place"):
        BigEarthNetSource(2, [], snow_and_clouds=False).fetch(tmp_path / "downloads", raw)
    assert asked == []


def test_lists_that_pair_two_places_stop_before_the_archives(v1_raw: Path, tmp_path: Path):
    raw = tmp_path / "raw"
    raw.mkdir()
    for name in [file.name for file in bigearthnet.V1_LISTS.values()]:
        lines = [line.split(",") for line in (v1_raw / name).read_text().splitlines()]
        s1_names = [s1 for _, s1 in lines]
        moved = [s1.rsplit("_", 1)[0] + "_0" for s1 in s1_names]
        (raw / name).write_text("".join(f"{s2},{s1}\n" for (s2, _), s1 in zip(lines, moved, strict=True)))
    with pytest.raises(SourceError, match=r"5 lines of .* name two places\.\n.*bigearthnet-train.csv, line 1: S2"):
        BigEarthNetSource(1, [], snow_and_clouds=False).fetch(tmp_path / "downloads", raw)
    assert not list(raw.glob("BigEarthNet*"))


def test_the_table_of_flagged_pairs_must_be_brought_before_anything_is_fetched(small_v2, v2_raw, tmp_path: Path):
    source, raw = BigEarthNetSource(2, [], snow_and_clouds=True), tmp_path / "raw"
    raw.mkdir()
    with pytest.raises(SourceError, match=r"no table .*snow_cloud_or_shadow\.parquet"):
        source.fetch(tmp_path / "downloads", raw)
    assert list(raw.iterdir()) == []
    content = (v2_raw / v2.FLAGGED_TABLE).read_bytes()
    (raw / v2.FLAGGED_TABLE).write_bytes(content)
    assert source.fetch(tmp_path / "downloads", raw)[v2.FLAGGED_TABLE] == f"md5:{md5(content).hexdigest()}"
    assert len(source.pairs(raw)) == 24


def test_folders_and_a_cut_table_that_the_user_provided_are_kept(v2_copy: Path, tmp_path: Path):
    # No address here leads anywhere: nothing is asked for.
    source = BigEarthNetSource(2, [], snow_and_clouds=False)
    table = pd.read_parquet(v2_copy / v2.TABLE).head(3)
    table.to_parquet(v2_copy / v2.TABLE)
    sums = source.fetch(tmp_path / "downloads", v2_copy)
    assert sums[v2.TABLE] == f"md5:{md5((v2_copy / v2.TABLE).read_bytes()).hexdigest()}"
    parts = [part for archive in bigearthnet.V2_ARCHIVES for part in archive.parts]
    assert {part.name: sums[part.name] for part in parts} == dict.fromkeys(sums.keys() - {v2.TABLE}, PROVIDED)
    assert len(source.pairs(v2_copy)) == 3


def test_v1_is_fetched_from_a_mirror_unpacked_and_read(v1_raw: Path, served, monkeypatch, tmp_path: Path):
    folder, address = served
    nowhere = "http://127.0.0.1:9"
    lists = [put(folder, nowhere, one.name, (v1_raw / one.name).read_bytes()) for one in bigearthnet.V1_LISTS.values()]
    made = []
    for archive in bigearthnet.V1_ARCHIVES:
        part = put(folder, nowhere, archive.name, packed(v1_raw, archive.makes))
        made.append(Archive(archive.name, (part,), archive.makes))
    monkeypatch.setattr(bigearthnet, "V1_LISTS", dict(zip(bigearthnet.V1_LISTS, lists, strict=True)))
    monkeypatch.setattr(bigearthnet, "V1_ARCHIVES", tuple(made))
    source, raw = BigEarthNetSource(1, [], snow_and_clouds=False), tmp_path / "raw"
    sums = source.fetch(tmp_path / "downloads", raw, DownloadOptions((address,), 2))
    assert set(sums) == {*(file.name for file in lists), *(archive.name for archive in made)}
    for pair in source.pairs(raw):
        source.read(raw, pair)
