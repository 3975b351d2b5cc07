"""Where SEN12MS comes from: three archives per season, and the authors' two lists."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from fusmae.sources.sen12ms.lists import TEST_LIST, TRAIN_LIST

if TYPE_CHECKING:
    from fusmae.sources.transfer.remote import Archive, RemoteFile

# User name and password are public: they were published with the dataset.
_ARCHIVES_ADDRESS = "ftp://m1474000:m1474000@dataserv.ub.tum.de"
_LISTS_ADDRESS = "https://raw.githubusercontent.com/schmitt-muc/SEN12MS/3a41236a28d08d253ebe2fa1a081e5e32aa7eab4/splits"

FOLDERS = {
    "spring": "ROIs1158_spring",
    "summer": "ROIs1868_summer",
    "fall": "ROIs1970_fall",
    "winter": "ROIs2017_winter",
}
"""Top folder of each season's archives."""

ARCHIVE_MD5S: dict[str, dict[str, str]] = {
    "spring": {
        "lc": "6e2e8fa8b8cba77ddab49fd20ff5c37b",
        "s1": "fba019bb27a08c1db96b31f718c34d79",
        "s2": "d58af2c15a16f376eb3308dc9b685af2",
    },
    "summer": {
        "lc": "2c5bd80244440b6f9d54957c6b1f23d4",
        "s1": "01044b7f58d33570c6b57fec28a3d449",
        "s2": "4dbaf72ecb704a4794036fe691427ff3",
    },
    "fall": {
        "lc": "9b126a68b0e3af260071b3139cb57cee",
        "s1": "19132e0aab9d4d6862fd42e8e6760847",
        "s2": "b8f117818878da86b5f5e06400eb1866",
    },
    "winter": {
        "lc": "0fa0420ef7bcfe4387c7e6fe226dc728",
        "s1": "bb8cbfc16b95a4f054a3d5380e0130ed",
        "s2": "3807545661288dcca312c9c538537b63",
    },
}
LIST_MD5S: dict[str, str] = {
    TRAIN_LIST: "0a68d4e1eb24f128fccdb930000b2546",
    TEST_LIST: "c7faad064001e646445c4c634169484d",
}


def list_files() -> list["RemoteFile"]:
    """Return both lists; they name the tiles of every season."""
    from fusmae.sources.transfer.remote import RemoteFile

    return [RemoteFile(name, f"{_LISTS_ADDRESS}/{name}", md5) for name, md5 in LIST_MD5S.items()]


def season_archives(seasons: Sequence[str]) -> list["Archive"]:
    """Return the archives of these seasons; the three archives of a season are unpacked into one folder."""
    from fusmae.sources.transfer.remote import Archive, RemoteFile

    archives = []
    for season in seasons:
        for kind, md5 in ARCHIVE_MD5S[season].items():
            name = f"{FOLDERS[season]}_{kind}.tar.gz"
            part = RemoteFile(name, f"{_ARCHIVES_ADDRESS}/{name}", md5)
            archives.append(Archive(name=name, parts=(part,), makes=FOLDERS[season]))
    return archives


def fetch_seasons(
    seasons: Sequence[str], downloads: Path, raw: Path, *, mirrors: Sequence[str], num_connections: int
) -> dict[str, str]:
    """Fetch and unpack what is missing; see `Source.fetch`.

    Args:
        seasons: names of the seasons.
        downloads: folder where archives are kept until they are unpacked.
        raw: folder that receives the lists and the seasons' folders.
        mirrors: addresses of folders that hold the files too.
        num_connections: number of simultaneous transfers.

    Returns:
        MD5 by file, as the dataset states it; "brought by hand" for files of a season that the user placed in `raw`.
    """
    from fusmae.sources.transfer.fetch import fetch_archives, fetch_file, part_sums
    from fusmae.sources.transfer.remote import DownloadOptions

    line = DownloadOptions(tuple(mirrors), num_connections)
    lists, archives = list_files(), season_archives(seasons)
    for file in lists:
        fetch_file(file, raw / file.name, line)
    by_hand = fetch_archives(archives, downloads, raw, line)
    return {**{file.name: f"md5:{file.md5}" for file in lists}, **part_sums(archives, by_hand)}
