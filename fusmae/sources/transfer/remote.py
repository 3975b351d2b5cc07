"""Files and archives that can be downloaded, and the settings of their transfer."""

from dataclasses import dataclass
from urllib.parse import quote, urlsplit, urlunsplit


@dataclass(frozen=True)
class RemoteFile:
    """One file of a dataset."""

    name: str  # name of the file, on this machine and in a mirror's folder
    address: str  # full URL (http, https or ftp)
    md5: str  # MD5 of the file, as 32 hexadecimal digits


@dataclass(frozen=True)
class Archive:
    """A tar.gz that may be split into parts, whose bytes follow one another."""

    name: str  # file name
    parts: tuple[RemoteFile, ...]  # parts in their order; an archive that is not split has one
    makes: str  # only top-level name that it is unpacked to; several archives may share it


@dataclass(frozen=True)
class DownloadOptions:
    """How files are transferred."""

    mirrors: tuple[str, ...] = ()  # addresses of folders that hold the same files; tried before a file's own address
    num_connections: int = 4  # number of simultaneous transfers


DEFAULT_OPTIONS = DownloadOptions()


def addresses(file: RemoteFile, options: DownloadOptions) -> tuple[str, ...]:
    """Return every address of a file, in the order in which they are tried; the last one is its own."""
    mirrors = [(split, split.path.rstrip("/")) for split in map(urlsplit, options.mirrors)]
    return (*(urlunsplit(split._replace(path=f"{path}/{quote(file.name)}")) for split, path in mirrors), file.address)
