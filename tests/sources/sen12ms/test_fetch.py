import hashlib
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import pytest
from torchgeo.datasets import SEN12MS

from fusmae.sources.sen12ms import source as sen12ms
from fusmae.sources.sen12ms.source import Sen12msSource
from fusmae.sources.transfer.fetch import PROVIDED
from fusmae.sources.transfer.remote import DownloadOptions
from tests.web import FolderHandler, web_server

SEASONS = ("spring", "summer", "fall", "winter")


def test_archives_lists_and_their_md5s_are_torchgeos():
    files = [part for archive in sen12ms.season_archives(SEASONS) for part in archive.parts]
    ours = {file.name: file.md5 for file in (*files, *sen12ms.LISTS)}
    assert ours == dict(zip(SEN12MS.filenames, SEN12MS.md5s, strict=True))


def test_addresses_are_those_of_torchgeos_download_script():
    script = SEN12MS.__doc__
    for archive in sen12ms.season_archives(SEASONS):
        (part,) = archive.parts
        season, kind = part.name.removeprefix("ROIs").removesuffix(".tar.gz").rsplit("_", 1)
        address = 'wget "ftp://m1474000:m1474000@dataserv.ub.tum.de/ROIs${season}_${source}.tar.gz"'
        assert address in script
        assert part.address == address[6:-1].replace("${season}", season).replace("${source}", kind)
        assert archive.name == part.name
    for file in sen12ms.LISTS:
        assert file.address.replace(file.name, "${split}_list.txt") in script


def test_the_three_archives_of_a_season_make_one_folder():
    assert [archive.makes for archive in sen12ms.season_archives(("summer",))] == ["ROIs1868_summer"] * 3


@dataclass
class Mirror:
    """A folder served over HTTP; `asked` are the paths that were asked for."""

    folder: Path
    address: str
    asked: list[str]


@pytest.fixture
def mirror(tmp_path: Path, tile_writer, list_writer, monkeypatch) -> Iterator[Mirror]:
    """The dataset's own archives and lists, of one tiny triplet a season; their MD5s are made to fit."""
    made, served = tmp_path / "made", tmp_path / "served"
    served.mkdir()
    folders = ("ROIs1158_spring", "ROIs1868_summer", "ROIs1970_fall", "ROIs2017_winter")
    list_writer(served, train=[f"{folder}_s2_1_p30.tif" for folder in folders], test=[])
    md5s: dict[str, str] = {}
    for folder in folders:
        for kind in ("lc", "s1", "s2"):
            tile = tile_writer(made, f"{folder}_s2_1_p30.tif", kind, side_px=8)
            path = served / f"{folder}_{kind}.tar.gz"
            with tarfile.open(path, "w:gz") as tar:
                tar.add(tile, tile.relative_to(made).as_posix())
            md5s[f"{folder}_{kind}"] = md5_of(path)
    monkeypatch.setattr(sen12ms, "ARCHIVE_MD5S", md5s)
    monkeypatch.setattr(sen12ms, "LISTS", [replace(file, md5=md5_of(served / file.name)) for file in sen12ms.LISTS])
    asked: list[str] = []
    with web_server(partial(FolderHandler, asked=asked, directory=served)) as server:
        yield Mirror(served, server.address, asked)


def md5_of(path: Path) -> str:
    return hashlib.md5(path.read_bytes()).hexdigest()


def fetch(mirror: Mirror, folder: Path, *seasons: str) -> dict[str, str]:
    source = Sen12msSource(seasons, 0.5)
    return source.fetch(folder / "downloads", folder / "raw", DownloadOptions((mirror.address,)))


def test_only_the_chosen_seasons_are_fetched(mirror, tmp_path):
    fetched = fetch(mirror, tmp_path, "fall", "spring")
    raw = tmp_path / "raw"
    assert {path.name for path in raw.iterdir() if not path.name.startswith(".")} == {
        "train_list.txt",
        "test_list.txt",
        "ROIs1158_spring",
        "ROIs1970_fall",
    }
    for kind in ("s1", "s2", "lc"):
        assert (raw / "ROIs1970_fall" / f"{kind}_1" / f"ROIs1970_fall_{kind}_1_p30.tif").is_file()
    assert not any("summer" in path or "winter" in path for path in mirror.asked)
    assert len(fetched) == 2 + 2 * 3
    assert fetched["train_list.txt"] == f"md5:{md5_of(raw / 'train_list.txt')}"
    assert all(value.startswith("md5:") for value in fetched.values())


def test_what_was_fetched_is_not_fetched_again_when_a_season_is_added(mirror, tmp_path):
    fetch(mirror, tmp_path, "summer")
    before = (tmp_path / "raw" / "ROIs1868_summer").stat().st_ino
    mirror.asked.clear()
    fetch(mirror, tmp_path, "summer", "winter")
    assert {path.split(".")[0] for path in mirror.asked} == {f"/ROIs2017_winter_{kind}" for kind in ("lc", "s1", "s2")}
    assert (tmp_path / "raw" / "ROIs1868_summer").stat().st_ino == before


def test_a_season_that_the_user_provided_is_kept(mirror, tmp_path, tile_writer):
    provided = tile_writer(tmp_path / "raw", "ROIs1868_summer_s2_5_p1.tif", "s2", side_px=8)
    fetched = fetch(mirror, tmp_path, "summer", "fall")
    assert {name for name, value in fetched.items() if value == PROVIDED} == {
        f"ROIs1868_summer_{kind}.tar.gz" for kind in ("lc", "s1", "s2")
    }
    assert fetched["ROIs1970_fall_s1.tar.gz"] == f"md5:{sen12ms.ARCHIVE_MD5S['ROIs1970_fall_s1']}"
    assert list((tmp_path / "raw" / "ROIs1868_summer").rglob("*.tif")) == [provided]
    assert not any("summer" in path for path in mirror.asked)


def test_no_season_means_all_four(mirror, tmp_path):
    assert len(fetch(mirror, tmp_path)) == 2 + 4 * 3
