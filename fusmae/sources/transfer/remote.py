"""What is to be had from elsewhere, and over which line."""

import re
from dataclasses import dataclass
from urllib.parse import quote, urlsplit, urlunsplit


@dataclass(frozen=True)
class RemoteFile:
    """One file of a dataset.

    Attributes:
        name: its file name, here and in a mirror's folder.
        address: its full URL (http, https or ftp).
        md5: of its bytes, as 32 hexadecimal digits.
    """

    name: str
    address: str
    md5: str


@dataclass(frozen=True)
class Archive:
    """A tar whose bytes are its parts' bytes, one after the other.

    Attributes:
        name: its file name, which says how it is compressed: .tar, .tar.gz or .tar.zst.
        parts: in their order; an archive that was not split has one.
        makes: the one top-level name it unpacks to; several archives may share it.
    """

    name: str
    parts: tuple[RemoteFile, ...]
    makes: str


@dataclass(frozen=True)
class Line:
    """How files are transferred.

    Attributes:
        mirrors: addresses of folders that hold the same files; tried in this order before a file's own address.
        num_connections: transfers at a time.
    """

    mirrors: tuple[str, ...] = ()
    num_connections: int = 4


def addresses(file: RemoteFile, line: Line) -> tuple[str, ...]:
    """Every address of a file, in the order in which they are tried; the last one is its own."""
    return (*(_in_folder(mirror, file.name) for mirror in line.mirrors), file.address)


def shown(address: str) -> str:
    """An address for people to read: without the password or the token that it may carry."""
    split = urlsplit(address)
    return urlunsplit(split._replace(netloc=split.netloc.rpartition("@")[2], query="…" if split.query else ""))


def without_secrets(text: str) -> str:
    """What a server or a library said, without passwords and queries of the addresses in it."""
    return re.sub(r"\?[^\s'\")]+", "?…", re.sub(r"://[^\s/]*@", "://", text))


def _in_folder(mirror: str, name: str) -> str:
    split = urlsplit(mirror)
    return urlunsplit(split._replace(path=f"{split.path.rstrip('/')}/{quote(name)}"))
