import io
import tarfile
from pathlib import Path
from typing import Any

import pytest

from fusmae.errors import SourceError
from fusmae.sources.transfer.fetch import fetch_archives
from fusmae.sources.transfer.remote import DownloadOptions


def evil_member(kind: str, outside: Path) -> tarfile.TarInfo:
    member = tarfile.TarInfo("Things/evil")
    if kind == "absolute path":
        member.name = str(outside / "evil")
    elif kind == "way up":
        member.name = "Things/../../../outside/evil"
    elif kind == "way up at the top":
        member.name = "../outside/evil"
    elif kind == "symbolic link":
        member.type, member.linkname = tarfile.SYMTYPE, "../../../outside"
    elif kind == "hard link":
        member.type, member.linkname = tarfile.LNKTYPE, "../../../outside/secret"
    else:
        member.type = {"device": tarfile.CHRTYPE, "pipe": tarfile.FIFOTYPE}[kind]
    return member


@pytest.mark.parametrize(
    "kind", ["absolute path", "way up", "way up at the top", "symbolic link", "hard link", "device", "pipe"]
)
def test_member_that_would_leave_the_folder_is_refused_by_name(kind: str, tmp_path: Path, offer_archive: Any) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_bytes(b"s")
    buffer, member = io.BytesIO(), evil_member(kind, outside)
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        tar.addfile(tarfile.TarInfo("Things/good"))
        tar.addfile(member)
        behind = tarfile.TarInfo("Things/evil/behind")
        behind.size = 3
        tar.addfile(behind, io.BytesIO(b"bad"))
    with pytest.raises(SourceError) as raised:
        fetch_archives([offer_archive(buffer.getvalue())], tmp_path / "downloads", tmp_path / "raw", DownloadOptions())
    assert "Things.tar.gz holds a member that can't be unpacked safely" in str(raised.value)
    assert repr(member.name) in str(raised.value)
    assert [path.name for path in outside.iterdir()] == ["secret"]
    assert not (tmp_path / "raw" / "Things").exists()


def test_long_names_and_dots_are_read_and_other_tops_are_passed_over(
    tmp_path: Path, offer_archive: Any, read_tree: Any
) -> None:
    buffer, long_name = io.BytesIO(), "Things/" + "/".join(["folder" * 10] * 4) + "/" + "é" * 90
    with tarfile.open(fileobj=buffer, mode="w:gz", format=tarfile.GNU_FORMAT) as tar:
        for name in (f"./{long_name}", "Things//./plain", "._Things", "Others/file"):
            member = tarfile.TarInfo(name)
            member.size = 3
            tar.addfile(member, io.BytesIO(b"abc"))
    fetch_archives([offer_archive(buffer.getvalue())], tmp_path / "downloads", tmp_path / "raw", DownloadOptions())
    assert read_tree(tmp_path / "raw") == {long_name: b"abc", "Things/plain": b"abc"}
