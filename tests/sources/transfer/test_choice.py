"""What of a dataset was chosen before, and what now: nothing is given up for a part of itself."""

import shutil
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import pytest

from fusmae.errors import SourceError
from fusmae.sources.transfer.fetch import PROVIDED, fetch_archives
from fusmae.sources.transfer.remote import Archive, DownloadOptions

Tree = dict[str, bytes]


@pytest.fixture
def archive(tree: Tree, pack: Any, offer_archive: Callable[..., Archive]) -> Archive:
    return offer_archive(pack(tree), num_parts=2)


@pytest.fixture
def fetch(archive: Archive, tmp_path: Path) -> Callable[[Collection[str]], dict[str, str]]:
    """Fetches the folders of these numbers, as words of a choice; all without one."""

    def fetch_choice(choice: Collection[str]) -> dict[str, str]:
        def is_wanted(name: str) -> bool:
            return not choice or name.split("/")[1] in choice

        return fetch_archives(
            [archive], tmp_path / "downloads", tmp_path / "raw", DownloadOptions(), is_wanted, choice=choice
        )

    return fetch_choice


def chosen(tree: Tree, choice: Collection[str]) -> Tree:
    return {name: tree[name] for name in sorted(tree) if not choice or name.split("/")[1] in choice}


@pytest.mark.parametrize("later", [[("3",), ()], [("5", "3"), ("3",), ()]])
def test_everything_stays_whatever_part_of_it_is_chosen_later(
    later: list[tuple[str, ...]], fetch: Any, tree: Tree, tmp_path: Path, server: Any, read_tree: Any
) -> None:
    fetch(())
    requests, inode = server.num_requests, (tmp_path / "raw" / "Things").stat().st_ino
    for choice in later:
        assert PROVIDED not in fetch(choice).values()
        assert read_tree(tmp_path / "raw") == chosen(tree, ())
    assert server.num_requests == requests
    assert (tmp_path / "raw" / "Things").stat().st_ino == inode


def test_several_words_stay_when_some_of_them_are_chosen_later(
    fetch: Any, tree: Tree, tmp_path: Path, server: Any, read_tree: Any
) -> None:
    fetch(["3", "5"])
    requests = server.num_requests
    for choice in (["3"], ["5", "3", "3"], ["5"]):
        fetch(choice)
        assert read_tree(tmp_path / "raw") == chosen(tree, ["3", "5"])
    assert server.num_requests == requests


@pytest.mark.parametrize("later", [["3", "5"], ["5"], []])
def test_what_was_not_chosen_before_is_fetched_with_the_rest_of_the_choice(
    later: list[str], fetch: Any, tree: Tree, tmp_path: Path, server: Any, read_tree: Any
) -> None:
    fetch(["3"])
    requests = server.num_requests
    fetch(later)
    assert server.num_requests > requests
    assert read_tree(tmp_path / "raw") == chosen(tree, later)


def test_part_that_was_begun_does_not_take_the_place_of_everything(
    fetch: Any, archive: Archive, tree: Tree, tmp_path: Path, read_tree: Any, server: Any
) -> None:
    fetch(["3"])

    def kill(_: str) -> bool:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetch_archives([archive], tmp_path / "downloads", tmp_path / "raw", DownloadOptions(), kill, choice=["5"])
    fetch([])
    requests = server.num_requests
    fetch(["5"])
    assert read_tree(tmp_path / "raw") == chosen(tree, [])
    assert server.num_requests == requests


def test_everything_is_called_so_where_another_folder_took_the_place_of_a_part(fetch: Any, tmp_path: Path) -> None:
    fetch(["3", "5"])
    shutil.copytree(tmp_path / "raw" / "Things", tmp_path / "copy")
    shutil.rmtree(tmp_path / "raw" / "Things")
    (tmp_path / "copy").rename(tmp_path / "raw" / "Things")
    with pytest.raises(SourceError, match=r"(?s)not the folder that was fetched.*choice '3, 5'.*choice 'everything'"):
        fetch([])


def test_a_folder_that_took_the_place_of_what_was_fetched_is_told_to_be_provided_by_the_user(
    fetch: Any, tmp_path: Path, server: Any
) -> None:
    assert PROVIDED not in fetch([]).values()
    requests = server.num_requests
    (tmp_path / "raw" / "Things").rename(tmp_path / "elsewhere")
    (tmp_path / "raw" / "Things").mkdir()
    assert set(fetch([]).values()) == {PROVIDED}
    assert server.num_requests == requests


def test_folder_that_the_user_provides_while_it_is_fetched_is_kept_and_told(
    archive: Archive, tmp_path: Path, read_tree: Any
) -> None:
    raw = tmp_path / "raw"

    def bring(_: str) -> bool:
        (raw / "Things").mkdir(exist_ok=True)
        (raw / "Things" / "mine").write_bytes(b"!")
        return True

    for _ in range(2):
        sums = fetch_archives([archive], tmp_path / "downloads", raw, DownloadOptions(), bring)
        assert sums == {part.name: PROVIDED for part in archive.parts}
        assert read_tree(raw) == {"Things/mine": b"!"}


def test_sums_are_stated_of_what_was_fetched(fetch: Any, archive: Archive) -> None:
    for _ in range(2):
        assert fetch([]) == {part.name: f"md5:{part.md5}" for part in archive.parts}
