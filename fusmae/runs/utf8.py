"""Text that people and other programs wrote: read as UTF-8 or refused, and names in one form."""

import codecs
import re
import shlex
import unicodedata
from pathlib import Path

from fusmae.errors import FusmaeError, SourceError

_BYTE_ORDER_MARKS = {
    codecs.BOM_UTF32_LE: "UTF-32",  # begins with the mark of UTF-16
    codecs.BOM_UTF32_BE: "UTF-32",
    codecs.BOM_UTF16_LE: "UTF-16",
    codecs.BOM_UTF16_BE: "UTF-16",
}
# Encodings other than UTF-8 in which spreadsheets save: iconv's name, and Python's.
_ENCODINGS = {"WINDOWS-1252": "cp1252", "MACINTOSH": "mac_roman", "CP850": "cp850"}
_MAX_JUDGED_LINES = 1000
_LINE_END = re.compile(rb"\r\n|\r|\n")
_CELL_END = re.compile(rb"[,;|\t\"]")


def composed(text: str) -> str:
    """A name in the form in which names are compared: NFC, as keyboards produce it.

    macOS and archives made there store "ü" as "u" and a combining mark (NFD), which looks the same.
    """
    return unicodedata.normalize("NFC", text)


def read_utf8(path: Path, *, raises: type[FusmaeError] = SourceError) -> str:
    """Text of a file with its line ends as they are, without a byte order mark.

    Bytes are never replaced: two names that differ in one lost letter would become the same name.

    Raises:
        FusmaeError: (of class `raises`) it is not UTF-8, or a conversion lost a letter; names the first such line.
    """
    data = path.read_bytes().removeprefix(codecs.BOM_UTF8)
    if wide := _wide_encoding(data):
        raise raises(f"{path}: this file is not UTF-8.", got=wide, expected="UTF-8", hint=f"`{_iconv(path, wide)}`")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise _not_utf8(path, _LINE_END.split(data), raises) from error
    for number, line in enumerate(re.split("\r\n|\r|\n", text), start=1):
        if "\N{REPLACEMENT CHARACTER}" in line:
            raise raises(
                f"{path}, line {number}: a letter is lost.",
                got=f"{line!r}, with U+FFFD in place of the letter",
                expected="the line as it was before a program saved it in another encoding",
                hint="save the original as UTF-8, or write the line again",
            )
    return text


def _wide_encoding(data: bytes) -> str:
    """The name in iconv of an encoding with two or four bytes per letter; "" for other encodings."""
    # In UTF-16 one of the two bytes of a Latin letter is 0.
    byte_order = "LE" if data[1::2].count(0) > data[::2].count(0) else "BE"
    guessed = f"UTF-16{byte_order}" if b"\0" in data else ""
    return next((name for mark, name in _BYTE_ORDER_MARKS.items() if data.startswith(mark)), guessed)


def _not_utf8(path: Path, lines: list[bytes], raises: type[FusmaeError]) -> FusmaeError:
    strange = [number for number, line in enumerate(lines, start=1) if not _is_utf8(line)]
    cell = next(cell for cell in _CELL_END.split(lines[strange[0] - 1]) if not _is_utf8(cell)).strip()
    more = f" and {len(strange) - 1:,} more" if len(strange) > 1 else ""
    if any(not line.isascii() and _is_utf8(line) for line in lines):
        return raises(
            f"{path}, line {strange[0]}{more}: not UTF-8, while other lines are.",
            got=cell,
            expected="UTF-8 in every line",
            hint="no command can convert a file in two encodings: write these lines again in an editor, as UTF-8",
        )
    sample = b"\n".join(lines[number - 1] for number in strange[:_MAX_JUDGED_LINES])
    encoding = min(_ENCODINGS, key=lambda name: _strangeness(sample, _ENCODINGS[name]))
    read = cell.decode(_ENCODINGS[encoding], errors="backslashreplace")
    return raises(
        f"{path}, line {strange[0]}{more}: not UTF-8.",
        got=f"{cell!r}, which is {read!r} in {encoding}",
        expected="UTF-8",
        hint=f"if {read!r} is right: `{_iconv(path, encoding)}`; else give iconv the encoding in which it was saved",
    )


def _is_utf8(line: bytes) -> bool:
    try:
        line.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _strangeness(data: bytes, encoding: str) -> int:
    """Number of characters that are rare in names: symbols, and capitals inside words of small letters."""
    text = f" {data.decode(encoding, errors='replace')} "
    return sum(
        letter > "\x7f" and (not letter.isalpha() or (letter.isupper() and before.isalpha() and not after.isupper()))
        for before, letter, after in zip(text, text[1:], text[2:], strict=False)
    )


def _iconv(path: Path, encoding: str) -> str:
    old, new = shlex.quote(str(path)), shlex.quote(f"{path}.utf8")
    return f"iconv -f {encoding} -t UTF-8 {old} > {new} && mv {new} {old}"
