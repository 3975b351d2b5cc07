"""Files and archives that can be downloaded, and the settings of their transfer."""

import re
from dataclasses import dataclass
from urllib.parse import quote, urlsplit, urlunsplit


@dataclass(frozen=True)
class RemoteFile:
    """One file of a dataset.

    Attributes:
        name: name of the file, on this machine and in a mirror's folder.
        address: full URL (http, https or ftp).
        md5: MD5 of the file, as 32 hexadecimal digits.
    """

    name: str
    address: str
    md5: str


@dataclass(frozen=True)
class Archive:
    """A tar.gz that may be split into parts, whose bytes follow one another.

    Attributes:
        name: file name.
        parts: parts in their order; an archive that is not split has one.
        makes: only top-level name that it is unpacked to; several archives may share it.
    """

    name: str
    parts: tuple[RemoteFile, ...]
    makes: str


@dataclass(frozen=True)
class DownloadOptions:
    """How files are transferred.

    Attributes:
        mirrors: addresses of folders that hold the same files; tried in this order before a file's own address.
        num_connections: number of simultaneous transfers.
    """

    mirrors: tuple[str, ...] = ()
    num_connections: int = 4


def addresses(file: RemoteFile, options: DownloadOptions) -> tuple[str, ...]:
    """Return every address of a file, in the order in which they are tried; the last one is its own."""
    return (*(_in_folder(mirror, file.name) for mirror in options.mirrors), file.address)


def shown(address: str) -> str:
    """Return an address for messages: without the password or the token that it may contain."""
    split = urlsplit(address)
    return urlunsplit(split._replace(netloc=split.netloc.rpartition("@")[2], query="…" if split.query else ""))


def without_secrets(text: str) -> str:
    """Return a message of a server or library without the passwords and queries of the addresses in it."""
    return re.sub(r"\?[^\s'\")]+", "?…", re.sub(r"://[^\s/]*@", "://", text))


def _in_folder(mirror: str, name: str) -> str:
    split = urlsplit(mirror)
    return urlunsplit(split._replace(path=f"{split.path.rstrip('/')}/{quote(name)}"))
