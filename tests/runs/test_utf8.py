import shutil
import subprocess
from pathlib import Path

import pytest

from fusmae.errors import ConfigError, SourceError
from fusmae.runs.utf8 import read_utf8

TEXT = "key,country\na,Finland\nZürich_0,Österreich\nb,Åland\n"


def refused(path: Path, data: bytes) -> str:
    path.write_bytes(data)
    with pytest.raises(SourceError) as caught:
        read_utf8(path)
    return str(caught.value)


def command_of(message: str) -> str:
    return message.rsplit("`", 2)[1]


@pytest.mark.parametrize("data", [TEXT.encode(), TEXT.encode("utf-8-sig")])
def test_utf8_is_read_without_its_byte_order_mark(tmp_path, data):
    (tmp_path / "a.csv").write_bytes(data)
    assert read_utf8(tmp_path / "a.csv") == TEXT


def test_line_ends_stay(tmp_path):
    (tmp_path / "a.csv").write_bytes(b"a\r\nb\rc\n")
    assert read_utf8(tmp_path / "a.csv") == "a\r\nb\rc\n"


@pytest.mark.parametrize(
    ("encoding", "name"),
    [("latin-1", "WINDOWS-1252"), ("cp1252", "WINDOWS-1252"), ("mac_roman", "MACINTOSH"), ("cp850", "CP850")],
)
def test_one_byte_encodings_are_refused_with_the_line_and_the_cell_as_it_would_read(tmp_path, encoding, name):
    said = refused(tmp_path / "a.csv", TEXT.encode(encoding))
    assert f"{tmp_path / 'a.csv'}, line 3 and 1 more: not UTF-8." in said
    assert f"which is 'Zürich_0' in {name}" in said
    assert "if 'Zürich_0' is right" in said


@pytest.mark.parametrize("ends", ["\r\n", "\r"])
def test_lines_are_counted_by_any_line_end(tmp_path, ends):
    assert "line 3 and 1 more" in refused(tmp_path / "a.csv", TEXT.replace("\n", ends).encode("cp1252"))


def test_a_byte_order_mark_moves_nothing(tmp_path):
    said = refused(tmp_path / "a.csv", b"\xef\xbb\xbf" + TEXT.encode("cp1252"))
    assert "'Zürich_0' in WINDOWS-1252" in said


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_wide_encodings_are_named(tmp_path, encoding):
    said = refused(tmp_path / "a.csv", TEXT.encode(encoding))
    assert "this file is not UTF-8" in said
    assert encoding.upper().replace("16-", "16") in said


@pytest.mark.skipif(not shutil.which("iconv"), reason="iconv is not installed")
@pytest.mark.parametrize("encoding", ["cp1252", "mac_roman", "cp850", "utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_the_command_of_the_hint_mends_the_file(tmp_path, encoding):
    path = tmp_path / "my table's.csv"
    command = command_of(refused(path, TEXT.encode(encoding)))
    subprocess.run(["sh", "-c", command], check=True)
    assert read_utf8(path) == TEXT
    assert [found.name for found in tmp_path.iterdir()] == [path.name]


def test_of_a_file_in_two_encodings_no_command_is_advised(tmp_path):
    said = refused(tmp_path / "a.csv", "a,Åland\n".encode() + "b,Österreich\n".encode("cp1252"))
    assert "line 2: not UTF-8, while other lines are" in said
    assert "iconv" not in said


def test_a_letter_that_was_lost_before_is_refused(tmp_path):
    said = refused(tmp_path / "a.csv", TEXT.encode("cp1252").decode("utf-8", errors="replace").encode())
    assert "line 3: a letter is lost" in said
    assert "Z\N{REPLACEMENT CHARACTER}rich_0" in said


def test_the_error_is_the_reader_s_own(tmp_path):
    (tmp_path / "params.yaml").write_bytes("a: Österreich".encode("cp1252"))
    with pytest.raises(ConfigError, match="line 1: not UTF-8"):
        read_utf8(tmp_path / "params.yaml", raises=ConfigError)
