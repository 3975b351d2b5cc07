import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fusmae.errors import SourceError, StorageError
from fusmae.runs.address import shown
from fusmae.sources.transfer import segments
from fusmae.sources.transfer.fetch import fetch_file
from fusmae.sources.transfer.remote import DownloadOptions, RemoteFile, addresses

LINE = DownloadOptions(num_connections=3)


def test_file_comes_whole_by_several_ranges_and_nothing_is_left_beside_it(
    server: Any, content: bytes, tmp_path: Path
) -> None:
    fetch_file(server.file("a.bin", content), tmp_path / "a.bin", LINE)
    assert (tmp_path / "a.bin").read_bytes() == content
    assert [path.name for path in tmp_path.iterdir()] == ["a.bin"]
    assert len(server.hits["/data/a.bin"].ranges) == 1 + 5  # the question for the size, and five segments


def test_right_file_that_is_there_needs_no_server(tmp_path: Path, content: bytes, server: Any) -> None:
    file = server.file("a.bin", content)
    (tmp_path / "a.bin").write_bytes(content)
    fetch_file(file, tmp_path / "a.bin", LINE)
    assert not server.hits


def test_wrong_file_that_is_there_is_named_and_kept(tmp_path: Path, content: bytes, server: Any) -> None:
    file = server.file("a.bin", content)
    (tmp_path / "a.bin").write_bytes(b"mine")
    with pytest.raises(SourceError, match=f"(?s)a.bin is not.*got:.*expected: {file.md5}.*dvc repro -f -s fetch"):
        fetch_file(file, tmp_path / "a.bin", LINE)
    assert (tmp_path / "a.bin").read_bytes() == b"mine"


def test_dropped_connections_cost_only_the_bytes_that_did_not_come(server: Any, content: bytes, tmp_path: Path) -> None:
    server.drops = 20
    fetch_file(server.file("a.bin", content), tmp_path / "a.bin", LINE)
    assert (tmp_path / "a.bin").read_bytes() == content
    assert server.drops == 0
    assert server.sent("a.bin") <= len(content) + 1


def test_server_that_never_gives_a_byte_is_given_up_with_its_reason(
    server: Any, content: bytes, tmp_path: Path
) -> None:
    server.drops, server.drop_after = 10**6, 1
    server.before_answer = lambda number: setattr(server, "drop_after", 0) if number > 1 else None
    with pytest.raises(SourceError, match=r"(?s)127.0.0.1.*Connection broken.*\(8 times\)"):
        fetch_file(server.file("a.bin", content), tmp_path / "a.bin", LINE)


def test_busy_server_is_asked_again_after_the_time_that_it_names(server: Any, content: bytes, tmp_path: Path) -> None:
    server.busy_answers, server.retry_after_s = 3, 1
    began = time.monotonic()
    fetch_file(server.file("a.bin", content), tmp_path / "a.bin", LINE)
    assert (tmp_path / "a.bin").read_bytes() == content
    assert time.monotonic() - began >= 3


def test_server_that_stays_busy_is_an_error_with_its_answer(server: Any, content: bytes, tmp_path: Path) -> None:
    server.busy_answers = 10**6
    with pytest.raises(SourceError, match="503 Service Unavailable"):
        fetch_file(server.file("a.bin", content), tmp_path / "a.bin", LINE)


@pytest.mark.parametrize("says_length", [True, False])
@pytest.mark.parametrize("drops", [0, 3])
def test_server_without_ranges_gives_one_stream(
    server: Any, content: bytes, tmp_path: Path, says_length: bool, drops: int
) -> None:
    server.ignores_ranges, server.says_length, server.drops, server.drop_after = True, says_length, drops, 150_000
    fetch_file(server.file("a.bin", content), tmp_path / "a.bin", LINE)
    assert (tmp_path / "a.bin").read_bytes() == content


def test_server_that_forgets_ranges_in_between_still_gives_the_right_bytes(
    server: Any, content: bytes, tmp_path: Path
) -> None:
    server.before_answer = lambda number: setattr(server, "ignores_ranges", number > 2)
    fetch_file(server.file("a.bin", content), tmp_path / "a.bin", LINE)
    assert (tmp_path / "a.bin").read_bytes() == content


def test_mirrors_come_first_and_the_own_address_helps_out(
    serve: Callable[[], Any], content: bytes, tmp_path: Path
) -> None:
    own, empty, wrong, mirror = serve(), serve(), serve(), serve()
    file = own.file("a b.bin", content)
    own.files = {"/data/a%20b.bin": content}
    file = RemoteFile(file.name, file.address.replace(" ", "%20"), file.md5)
    wrong.files["/m/a%20b.bin"] = content[:-1] + b"?"
    mirror.files["/m/a%20b.bin"] = content
    line = DownloadOptions((f"{empty.address}/m/", f"{wrong.address}/m", f"{mirror.address}/m"), 3)
    fetch_file(file, tmp_path / file.name, line)
    assert (tmp_path / file.name).read_bytes() == content
    assert empty.hits
    assert wrong.hits
    assert not own.hits
    mirror.files.clear()
    fetch_file(file, tmp_path / "again", line)
    assert own.hits


def test_bytes_of_a_lying_mirror_that_died_do_not_spoil_the_own_address(
    serve: Callable[[], Any], content: bytes, tmp_path: Path
) -> None:
    own, mirror = serve(), serve()
    file = own.file("a.bin", content)
    mirror.files["/m/a.bin"] = bytes(len(content))
    mirror.before_answer = lambda number: mirror.files.clear() if number > 3 else None
    fetch_file(file, tmp_path / "a.bin", DownloadOptions((f"{mirror.address}/m",), 1))
    assert (tmp_path / "a.bin").read_bytes() == content


def test_own_address_goes_on_where_a_mirror_died(serve: Callable[[], Any], content: bytes, tmp_path: Path) -> None:
    own, mirror = serve(), serve()
    file = own.file("a.bin", content)
    mirror.files["/m/a.bin"] = content
    mirror.before_answer = lambda number: mirror.files.clear() if number > 3 else None
    fetch_file(file, tmp_path / "a.bin", DownloadOptions((f"{mirror.address}/m",), 1))
    assert (tmp_path / "a.bin").read_bytes() == content
    assert own.sent("a.bin") == len(content) - 2 * 2**16 + 1


def test_mirror_with_another_size_does_not_cost_what_was_begun(
    serve: Callable[[], Any], content: bytes, tmp_path: Path
) -> None:
    own, mirror = serve(), serve()
    file = own.file("a.bin", content)
    own.before_answer = lambda number: own.files.clear() if number > 3 else None
    with pytest.raises(SourceError, match="404"):
        fetch_file(file, tmp_path / "a.bin", DownloadOptions((), 1))
    own.before_answer = lambda _: None
    own.files["/data/a.bin"] = content
    mirror.files["/m/a.bin"] = content + b"more"
    before = own.sent("a.bin")
    fetch_file(file, tmp_path / "a.bin", DownloadOptions((f"{mirror.address}/m",), 1))
    assert (tmp_path / "a.bin").read_bytes() == content
    assert own.sent("a.bin") - before == len(content) - 2 * 2**16 + 1


def test_when_all_fail_the_error_names_every_address_and_a_way_out(
    serve: Callable[[], Any], content: bytes, tmp_path: Path
) -> None:
    own, mirror = serve(), serve()
    file = own.file("a.bin", content[:-1])
    file = RemoteFile("a.bin", file.address.replace("http://", "http://user:secret@"), "0" * 32)
    with pytest.raises(SourceError) as raised:
        fetch_file(file, tmp_path / "a.bin", DownloadOptions((f"{mirror.address}/m", "gopher://there/m"), 2))
    text = str(raised.value)
    assert "/m/a.bin: 404 Not Found" in text
    assert "gopher://there/m/a.bin: not an http, https or ftp address" in text
    assert "its file has MD5" in text
    assert "0" * 32 in text
    assert f"by hand to {tmp_path / 'a.bin'}, then `dvc repro -f -s fetch`" in text
    assert "secret" not in text
    assert not (tmp_path / "a.bin").exists()


def test_dead_address_is_an_error(server: Any, content: bytes, tmp_path: Path) -> None:
    file = RemoteFile("a.bin", "http://127.0.0.1:9/a.bin", "0" * 32)
    with pytest.raises(SourceError, match=r"(?s)127.0.0.1:9.*\(4 times\)"):
        fetch_file(file, tmp_path / "a.bin", LINE)


@pytest.mark.parametrize("has_edition", [True, False])
def test_file_that_changes_on_the_server_is_not_mixed(
    server: Any, content: bytes, tmp_path: Path, has_edition: bool
) -> None:
    old = bytes(len(content)) if has_edition else bytes(len(content) + 5)
    file = server.file("a.bin", content)
    if has_edition:
        server.edition = lambda served: f'"{len(served)}-{served[0]}"'
    server.before_answer = lambda number: server.files.update({"/data/a.bin": old if number < 4 else content})
    fetch_file(file, tmp_path / "a.bin", DownloadOptions((), 1))
    assert (tmp_path / "a.bin").read_bytes() == content


def test_file_that_changed_between_two_runs_is_begun_anew(server: Any, content: bytes, tmp_path: Path) -> None:
    file = server.file("a.bin", content)
    server.files["/data/a.bin"] = bytes(len(content))
    server.edition = lambda served: f'"{served[0]}"'
    server.before_answer = lambda number: server.files.pop("/data/a.bin", None) if number > 3 else None
    with pytest.raises(SourceError, match="404"):
        fetch_file(file, tmp_path / "a.bin", DownloadOptions((), 1))
    server.before_answer = lambda _: None
    server.files["/data/a.bin"] = content
    requests = server.num_requests
    fetch_file(file, tmp_path / "a.bin", DownloadOptions((), 1))
    assert (tmp_path / "a.bin").read_bytes() == content
    assert server.num_requests - requests == 6


@pytest.mark.parametrize("ignores_ranges", [False, True])
def test_file_that_changed_between_two_runs_unsaid_is_fetched_anew_in_the_second(
    server: Any, content: bytes, tmp_path: Path, ignores_ranges: bool
) -> None:
    file = server.file("a.bin", content)
    server.files["/data/a.bin"] = bytes(len(content))
    server.ignores_ranges, server.drops, server.drop_after = ignores_ranges, 10**6, 150_000 if ignores_ranges else 9_000
    server.before_answer = lambda number: server.files.pop("/data/a.bin", None) if number > 3 else None
    with pytest.raises(SourceError, match="404"):
        fetch_file(file, tmp_path / "a.bin", DownloadOptions((), 1))
    server.before_answer, server.drops = lambda _: None, 0
    server.files["/data/a.bin"] = content
    fetch_file(file, tmp_path / "a.bin", DownloadOptions((), 1))
    assert (tmp_path / "a.bin").read_bytes() == content


def test_file_that_is_wrong_from_its_first_byte_on_is_fetched_once(server: Any, content: bytes, tmp_path: Path) -> None:
    file = server.file("a.bin", content)
    server.files["/data/a.bin"] = bytes(len(content))
    with pytest.raises(SourceError, match="its file has MD5"):
        fetch_file(file, tmp_path / "a.bin", LINE)
    assert server.sent("a.bin") == len(content) + 1


def test_answers_that_contradict_themselves_are_refused(server: Any, content: bytes, tmp_path: Path) -> None:
    file = server.file("a.bin", content)
    server.wrong_first_byte = 1
    with pytest.raises(SourceError, match="asked for the bytes from"):
        fetch_file(file, tmp_path / "a.bin", LINE)
    server.wrong_first_byte = 0
    server.before_answer = lambda number: setattr(server, "wrong_total", number)
    with pytest.raises(SourceError, match=r"the file has \d+ bytes now"):
        fetch_file(file, tmp_path / "a.bin", LINE)


def test_wrong_total_from_the_start_is_found_by_the_checksum(server: Any, content: bytes, tmp_path: Path) -> None:
    server.wrong_total = -7
    with pytest.raises(SourceError, match="its file has MD5"):
        fetch_file(server.file("a.bin", content), tmp_path / "a.bin", LINE)


def test_full_disk_is_a_storage_error_and_keeps_what_came(
    server: Any, content: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, append = server.file("a.bin", content), segments.Segments._append

    def full(self: segments.Segments, number: int, piece: bytes) -> None:
        with segments.writing_to(tmp_path / "a.bin"):
            if number == 3:
                raise OSError(28, "No space left on device")
        append(self, number, piece)

    with monkeypatch.context() as patch:
        patch.setattr(segments.Segments, "_append", full)
        with pytest.raises(StorageError, match=r"(?s)The disk is full.*MB free.*make room"):
            fetch_file(file, tmp_path / "a.bin", DownloadOptions((), 1))
    before = server.sent("a.bin")
    fetch_file(file, tmp_path / "a.bin", DownloadOptions((), 1))
    assert (tmp_path / "a.bin").read_bytes() == content
    assert server.sent("a.bin") - before <= len(content) - 3 * 2**16 + 1


def test_damaged_plan_is_begun_anew(server: Any, content: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.bin.segments").mkdir()
    (tmp_path / "a.bin.segments" / "plan.json").write_text("{")
    (tmp_path / "a.bin.segments" / "00000").write_bytes(b"who knows")
    fetch_file(server.file("a.bin", content), tmp_path / "a.bin", LINE)
    assert (tmp_path / "a.bin").read_bytes() == content


def test_mirror_addresses_keep_their_query_and_passwords_are_not_shown() -> None:
    file = RemoteFile("a.tar", "https://own/files/a.tar?download=1", "0" * 32)
    assert addresses(file, DownloadOptions(("https://u:p@m/x/?token=1",))) == (
        "https://u:p@m/x/a.tar?token=1",
        file.address,
    )
    assert shown("ftp://user:secret@host/a") == "ftp://host/a"
