"""Where BigEarthNet comes from: addresses and checksums of its files, and which of them are fetched."""

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path

from fusmae.data.index import Split
from fusmae.sources.bigearthnet import v1
from fusmae.sources.patches import v2
from fusmae.sources.transfer.remote import Archive, DownloadOptions, RemoteFile

_V2_ADDRESS = "https://hf.co/datasets/torchgeo/bigearthnet/resolve/3cf3a5910a5302d449fdb8e570e5b78de24fe07f/V2"
_V1_ADDRESS = "https://zenodo.org/records/12687186/files"
_V1_LISTS_ADDRESS = (
    "https://git.tu-berlin.de/rsim/BigEarthNet-MM_19-classes_models/-/raw/"
    "9a5be07346ab0884b2d9517475c27ef9db9b5104/splits/{}.csv?inline=false"
)


def _v2_file(name: str, md5: str) -> RemoteFile:
    return RemoteFile(name, f"{_V2_ADDRESS}/{name}", md5)


V2_TABLE = _v2_file(v2.TABLE, "55687065e77b6d0b0f1ff604a6e7b49c")
"""v2's table of pairs without snow, cloud or cloud shadow."""

V2_ARCHIVES = (
    Archive(
        name="BigEarthNet-S1.tar.gz",
        parts=(
            _v2_file("BigEarthNet-S1.tar.gzaa", "039b9ce305fc6582b2c3d60d1573f5b7"),
            _v2_file("BigEarthNet-S1.tar.gzab", "e94f0ea165d04992ca91d8e58e82ec6d"),
        ),
        makes=v2.FOLDERS["s1"],
    ),
    Archive(
        name="BigEarthNet-S2.tar.gz",
        parts=(
            _v2_file("BigEarthNet-S2.tar.gzaa", "94e8ed32065234d3ab46353d814778d1"),
            _v2_file("BigEarthNet-S2.tar.gzab", "24c223d9e36166136c13b24a27debe34"),
        ),
        makes=v2.FOLDERS["s2"],
    ),
    Archive(
        name="Reference_Maps.tar.gz",
        parts=(_v2_file("Reference_Maps.tar.gzaa", "b0cd1f0a31b49fcbfd61d80f963e759d"),),
        makes=v2.MAPS_FOLDER,
    ),
)
"""v2's pixels and land-cover maps."""


def _v1_archive(name: str, md5: str, makes: str) -> Archive:
    return Archive(name, (RemoteFile(name, f"{_V1_ADDRESS}/{name}", md5),), makes)


V1_ARCHIVES = (
    _v1_archive("BigEarthNet-S1-v1.0.tar.gz", "94ced73440dea8c7b9645ee738c5a172", v1.FOLDERS["s1"]),
    _v1_archive("BigEarthNet-S2-v1.0.tar.gz", "5a64e9ce38deb036a435a7b59494924c", v1.FOLDERS["s2"]),
)
"""v1's pixels and labels."""

_V1_LIST_MD5S: dict[Split, tuple[str, str]] = {
    "train": ("train", "623e501b38ab7b12fe44f0083c00986d"),
    "validation": ("val", "22efe8ed9cbd71fa10742ff7df2b7978"),
    "test": ("test", "697fb90677e30571b9ac7699b7e5b432"),
}
V1_LISTS = tuple(
    RemoteFile(v1.SPLIT_LISTS[split], _V1_LISTS_ADDRESS.format(word), md5)
    for split, (word, md5) in _V1_LIST_MD5S.items()
)
"""v1's official splits."""


def fetch_v1(downloads: Path, raw: Path, line: DownloadOptions) -> dict[str, str]:
    """Fetch v1's lists and both archives; see `Source.fetch`."""
    from fusmae.sources.transfer.fetch import fetch_archives, part_sums

    sums = {file.name: _table_sum(file, raw, line) for file in V1_LISTS}
    v1.listed_names(raw)  # finds a wrong list before 60 GB are transferred
    by_hand = fetch_archives(V1_ARCHIVES, downloads, raw, line)
    return {**sums, **part_sums(V1_ARCHIVES, by_hand)}


def fetch_v2(
    downloads: Path, raw: Path, line: DownloadOptions, countries: Sequence[str], *, snow_and_clouds: bool
) -> dict[str, str]:
    """Fetch v2's table, then from all archives the patches of the chosen countries; see `Source.fetch`.

    Args:
        downloads: folder of the archives, see `Source.fetch`.
        raw: folder of the unpacked dataset, see `Source.fetch`.
        line: mirrors and number of connections.
        countries: names of countries as the table spells them; empty for all.
        snow_and_clouds: whether to take pairs with snow or clouds too; their table must be in `raw`.
    """
    from fusmae.sources.transfer.fetch import fetch_archives, part_sums

    # This table can't be fetched, so its absence is reported before 110 GB are transferred.
    flagged = {v2.FLAGGED_TABLE: _md5(v2.flagged_table(raw))} if snow_and_clouds else {}
    sums = {V2_TABLE.name: _table_sum(V2_TABLE, raw, line), **flagged}
    # A table that contradicts itself is refused here too, even if all countries are taken.
    names = v2.patch_names(raw, countries, snow_and_clouds=snow_and_clouds)
    wanted, choice = _of_patches(names) if countries else None, set(countries)
    if snow_and_clouds:
        # Added to the country's own entry, because the choice with flagged pairs includes the other pairs too.
        choice |= {f"{country} with snow and clouds" for country in countries}
    by_hand = fetch_archives(V2_ARCHIVES, downloads, raw, line, wanted, choice=choice)
    chosen = {"countries": ", ".join(sorted(set(countries)))} if countries else {}
    return {**sums, **part_sums(V2_ARCHIVES, by_hand), **chosen}


def _of_patches(names: set[str]) -> Callable[[str], bool]:
    """Return a filter of archive members `<top folder>/<scene>/<patch>/<file>` by patch name."""

    def is_wanted(member: str) -> bool:
        folders = member.split("/")
        return len(folders) > 2 and folders[2] in names

    return is_wanted


def _table_sum(file: RemoteFile, raw: Path, line: DownloadOptions) -> str:
    """Fetch a table unless it is present, complete or shortened by the user, and return its MD5."""
    from fusmae.sources.transfer.fetch import fetch_file

    if not (raw / file.name).exists():
        fetch_file(file, raw / file.name, line)
    return _md5(raw / file.name)


def _md5(path: Path) -> str:
    with path.open("rb") as content:
        return f"md5:{hashlib.file_digest(content, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()}"
