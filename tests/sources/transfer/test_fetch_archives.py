import gzip
import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock

from fusmae.errors import SourceError, StorageError
from fusmae.sources.transfer import fetch
from fusmae.sources.transfer.fetch import PROVIDED, fetch_archives
from fusmae.sources.transfer.remote import Archive, DownloadOptions, RemoteFile
from fusmae.sources.transfer.segments import writing_to

LINE = DownloadOptions(num_connections=3)
Tree = dict[str, bytes]


@pytest.fixture
def downloads(tmp_path: Path) -> Path:
    return tmp_path / "downloads"


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    return tmp_path / "raw"


def used_bytes(*folders: Path) -> int:
    return sum(path.stat().st_size for folder in folders for path in folder.rglob("*") if path.is_file())


@pytest.mark.parametrize("num_parts", [1, 3])
def test_archive_becomes_its_tree_and_leaves_only_notes(
    num_parts: int, tree: Tree, downloads: Path, raw: Path, pack: Any, offer_archive: Any, read_tree: Any
) -> None:
    fetch_archives([offer_archive(pack(tree), num_parts=num_parts)], downloads, raw, LINE)
    assert read_tree(raw) == dict(sorted(tree.items()))
    assert sorted(path.name for path in raw.iterdir()) == ["Things"]
    assert {path.name for path in downloads.iterdir()} <= {"Things.done", ".lock"}


def test_second_call_is_done_without_a_request(
    tree: Tree, downloads: Path, raw: Path, pack: Any, offer_archive: Any, server: Any
) -> None:
    archive = offer_archive(pack(tree))
    fetch_archives([archive], downloads, raw, LINE, choice=["all"])
    requests = server.num_requests
    fetch_archives([archive], downloads, raw, LINE, choice=["all"])
    assert server.num_requests == requests


def test_disk_never_holds_much_more_than_the_unpacked_tree(
    downloads: Path, raw: Path, pack: Any, offer_archive: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As far apart in proportion to a seek point's 32 KB as places and points are in earnest.
    for name in ("unpack.SPACING_BYTES", "unpack.LEG_BYTES"):
        monkeypatch.setattr(f"fusmae.sources.transfer.{name}", 2**20)
    tree = {f"Things/{n}": random.Random(n).randbytes(400_000) for n in range(75)}
    most = 0

    def measure(_: str) -> bool:
        nonlocal most
        most = max(most, used_bytes(downloads, raw))
        return True

    content = pack(tree)
    unpacked = sum(map(len, tree.values()))
    assert len(content) > 0.99 * unpacked  # noise: the archive is as large as what is in it
    fetch_archives([offer_archive(content, num_parts=2)], downloads, raw, LINE, measure)
    assert unpacked < most < 1.2 * unpacked


def test_choice_takes_only_its_members_and_another_one_is_made_anew(
    tree: Tree, downloads: Path, raw: Path, pack: Any, offer_archive: Any, read_tree: Any
) -> None:
    archive = offer_archive(pack(tree))
    for digit in "35":
        fetch_archives(
            [archive], downloads, raw, LINE, lambda name, d=digit: name.startswith(f"Things/{d}/"), choice=[digit]
        )
        assert read_tree(raw) == {name: tree[name] for name in sorted(tree) if name.startswith(f"Things/{digit}/")}


def test_choice_that_leaves_nothing_is_an_error(
    tree: Tree, downloads: Path, raw: Path, pack: Any, offer_archive: Any
) -> None:
    with pytest.raises(SourceError, match=r"(?s)holds nothing of 'Things' that is wanted.*top: Things.*choice 'none'"):
        fetch_archives([offer_archive(pack(tree))], downloads, raw, LINE, lambda _: False, choice=["none"])
    assert not (raw / "Things").exists()


def test_folder_that_the_user_provided_is_kept_as_it_is(
    tree: Tree, downloads: Path, raw: Path, pack: Any, offer_archive: Any, server: Any, read_tree: Any
) -> None:
    (raw / "Things").mkdir(parents=True)
    (raw / "Things" / "mine").write_bytes(b"!")
    for _ in range(2):
        sums = fetch_archives([offer_archive(pack(tree))], downloads, raw, LINE)
        assert sums == {"Things.tar.gz": PROVIDED}
    assert read_tree(raw) == {"Things/mine": b"!"}
    assert server.num_requests == 0


def test_folder_that_took_the_place_of_ours_is_not_replaced_for_another_choice(
    tree: Tree, downloads: Path, raw: Path, pack: Any, offer_archive: Any, read_tree: Any
) -> None:
    archive = offer_archive(pack(tree))
    fetch_archives([archive], downloads, raw, LINE, choice=["a"])
    shutil.copytree(raw / "Things", raw / "copy")
    shutil.rmtree(raw / "Things")
    (raw / "copy").rename(raw / "Things")
    with pytest.raises(
        SourceError, match=r"(?s)not the folder that was fetched.*choice 'a'.*choice 'b'.*remove .*Things.done"
    ):
        fetch_archives([archive], downloads, raw, LINE, choice=["b"])
    assert read_tree(raw) == dict(sorted(tree.items()))


def test_archive_put_there_by_hand_is_used_and_stays(
    tree: Tree, downloads: Path, raw: Path, pack: Any, offer_archive: Any, server: Any, read_tree: Any
) -> None:
    content = pack(tree)
    archive = offer_archive(content, num_parts=2)
    downloads.mkdir()
    by_hand = downloads / archive.parts[1].name
    by_hand.write_bytes(content[-(len(content) // 2) :])
    fetch_archives([archive], downloads, raw, LINE)
    assert read_tree(raw) == dict(sorted(tree.items()))
    assert by_hand.read_bytes() == content[-(len(content) // 2) :]
    assert [path for path in server.hits if path.endswith("ab")] == []


def test_wrong_archive_put_there_by_hand_is_named_and_stays(
    tree: Tree, downloads: Path, raw: Path, pack: Any, offer_archive: Any
) -> None:
    archive = offer_archive(pack(tree))
    downloads.mkdir()
    (downloads / archive.name).write_bytes(b"half of it")
    with pytest.raises(SourceError, match=r"(?s)Things.tar.gz is not.*10 bytes.*expected.*remove this file"):
        fetch_archives([archive], downloads, raw, LINE)
    assert (downloads / archive.name).exists()


def test_several_archives_make_one_folder_together(
    tree: Tree, downloads: Path, raw: Path, pack: Any, offer_archive: Any, read_tree: Any, server: Any
) -> None:
    halves = [{name: tree[name] for name in list(tree)[first::2]} for first in (0, 1)]
    contents = [pack(half) for half in halves]
    archives = [offer_archive(content, f"half{n}.tar.gz") for n, content in enumerate(contents)]
    server.before_answer = lambda number: server.files.pop("/data/half1.tar.gz", None)
    with pytest.raises(SourceError, match=r"half1.tar.gz could not be downloaded"):
        fetch_archives(archives, downloads, raw, LINE)
    assert not (raw / "Things").exists()
    server.before_answer = lambda _: None
    offer_archive(contents[1], "half1.tar.gz")
    sent = server.sent("half0.tar.gz")
    fetch_archives(archives, downloads, raw, LINE)
    assert read_tree(raw) == dict(sorted(tree.items()))
    assert server.sent("half0.tar.gz") == sent


def test_failure_in_mid_unpack_goes_on_without_what_was_given_back(
    tree: Tree, downloads: Path, raw: Path, pack: Any, offer_archive: Any, read_tree: Any, server: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    archive = offer_archive(pack(tree), num_parts=2)
    seen: list[str] = []

    def full(name: str) -> bool:
        with writing_to(raw / name):
            if len(seen) == 45:
                raise OSError(28, "No space left on device")
        seen.append(name)
        return True

    with pytest.raises(StorageError, match="The disk is full"):
        fetch_archives([archive], downloads, raw, LINE, full)
    place = json.loads((downloads / "Things.journal" / "journal.json").read_text())
    assert place["offset"] > 1_000_000
    assert not (downloads / f"{archive.parts[0].name}.segments" / "00000").exists()
    assert not (raw / "Things").exists()
    requests = server.num_requests
    again: list[str] = []
    fetch_archives([archive], downloads, raw, LINE, lambda name: not again.append(name))
    assert read_tree(raw) == dict(sorted(tree.items()))
    assert server.num_requests == requests
    assert len(again) < 30


@pytest.mark.parametrize("lost", ["segment", "journal", "half"])
def test_what_was_lost_of_a_half_unpacked_archive_is_fetched_again(
    lost: str, tree: Tree, downloads: Path, raw: Path, pack: Any, offer_archive: Any, read_tree: Any
) -> None:
    archive = offer_archive(pack(tree))
    count = 0

    def stop_at_forty(_: str) -> bool:
        nonlocal count
        count += 1
        if count == 40:
            raise KeyboardInterrupt
        return True

    with pytest.raises(KeyboardInterrupt):
        fetch_archives([archive], downloads, raw, LINE, stop_at_forty)
    if lost == "segment":
        sorted((downloads / "Things.tar.gz.segments").glob("0*"))[-1].unlink()
    else:
        shutil.rmtree(downloads / "Things.journal" if lost == "journal" else raw / ".Things.partial")
    fetch_archives([archive], downloads, raw, LINE)
    assert read_tree(raw) == dict(sorted(tree.items()))


@pytest.mark.parametrize("step", ["before the folder has its name", "before the note", "before the cleaning"])
def test_kill_in_the_last_steps_ends_in_the_same_state(
    step: str, tree: Tree, downloads: Path, raw: Path, pack: Any, offer_archive: Any, read_tree: Any,
    monkeypatch: pytest.MonkeyPatch, server: Any,
) -> None:  # fmt: skip
    archive = offer_archive(pack(tree))
    fetch_archives([archive], downloads, raw, LINE, lambda name: "/0/" in name, choice=["before"])

    def kill(*_: object) -> None:
        raise KeyboardInterrupt

    target = {"before the folder has its name": (fetch._Group, "_finish"), "before the note": (fetch, "write_json")}
    with monkeypatch.context() as patch:
        patch.setattr(*target.get(step, (fetch._Group, "_clear")), kill)
        with pytest.raises(KeyboardInterrupt):
            fetch_archives([archive], downloads, raw, LINE, choice=["now"])
    requests = server.num_requests
    fetch_archives([archive], downloads, raw, LINE, choice=["now"])
    assert read_tree(raw) == dict(sorted(tree.items()))
    assert server.num_requests == requests
    assert {path.name for path in downloads.iterdir()} <= {"Things.done", ".lock"}


def test_damaged_header_in_the_middle_is_no_end(
    tree: Tree, downloads: Path, raw: Path, pack: Any, offer_archive: Any
) -> None:
    content = bytearray(gzip.decompress(pack(tree)))
    where = content.index(b"Things/0/thing_21.bin")
    content[where : where + 400] = b"?" * 400
    with pytest.raises(SourceError, match="damaged header in the middle"):
        fetch_archives([offer_archive(gzip.compress(content))], downloads, raw, LINE)


# The names are given: gzip writes the time, and each worker of a run must find tests of the same names.
@pytest.mark.parametrize(
    "content", [b"<html>sorry</html>" * 99, gzip.compress(b"no tar" * 999)], ids=["page", "no tar"]
)
def test_archive_that_is_none_is_an_error(content: bytes, downloads: Path, raw: Path, offer_archive: Any) -> None:
    with pytest.raises(SourceError, match=r"Things\.tar\.gz can't be unpacked"):
        fetch_archives([offer_archive(content)], downloads, raw, LINE)


def test_second_run_at_the_same_time_is_an_error(downloads: Path, raw: Path) -> None:
    downloads.mkdir()
    with FileLock(downloads / ".lock"), pytest.raises(SourceError, match="Another run is downloading"):
        fetch_archives([Archive("a.tar", (RemoteFile("a.tar", "http://x", "0" * 32),), "a")], downloads, raw, LINE)


def test_raw_may_be_a_link_to_another_place(
    tree: Tree, downloads: Path, raw: Path, tmp_path: Path, pack: Any, offer_archive: Any, read_tree: Any
) -> None:
    (tmp_path / "big disk").mkdir()
    raw.symlink_to(tmp_path / "big disk")
    fetch_archives([offer_archive(pack(tree))], downloads, raw, LINE)
    assert read_tree(raw) == dict(sorted(tree.items()))


def test_progress_is_one_line_a_step_where_nobody_watches(
    tree: Tree, downloads: Path, raw: Path, pack: Any, offer_archive: Callable[..., Archive], capsys: Any
) -> None:
    fetch_archives([offer_archive(pack(tree))], downloads, raw, LINE)
    said = capsys.readouterr()
    assert said.out == ""
    assert [line.split()[0] for line in said.err.splitlines() if line[0] != "h"] == [
        "downloading",
        "checking",
        "unpacking",
    ]


def test_progress_is_a_bar_on_a_terminal(
    tree: Tree, downloads: Path, raw: Path, pack: Any, offer_archive: Any, capsys: Any, monkeypatch: Any
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "200")
    fetch_archives([offer_archive(pack(tree))], downloads, raw, LINE)
    said = capsys.readouterr()
    assert said.out == ""
    assert "MiB" in said.err
    assert "unpacking Things.tar.gz" in said.err
