"""BigEarthNet-MM as it is published, version 1 and version 2 (reBEN): its files, and what is read of them."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fusmae.data.index import Pair, Split
from fusmae.errors import SourceError
from fusmae.sources.bigearthnet import v1
from fusmae.sources.patches import v2
from fusmae.sources.patches.facts import V1_FACTS, v2_facts
from fusmae.sources.patches.geotiff import read_patches, read_reference_map
from fusmae.sources.patches.nomenclature import CLASSES
from fusmae.sources.shared.source import Facts, Source
from fusmae.sources.transfer.fetch import fetch_archives, fetch_file
from fusmae.sources.transfer.remote import DEFAULT_OPTIONS, Archive, DownloadOptions, RemoteFile

_V2_ADDRESS = "https://hf.co/datasets/torchgeo/bigearthnet/resolve/3cf3a5910a5302d449fdb8e570e5b78de24fe07f/V2"
_V1_ADDRESS = "https://zenodo.org/records/12687186/files"
_V1_LISTS_ADDRESS = (
    "https://git.tu-berlin.de/rsim/BigEarthNet-MM_19-classes_models/-/raw/"
    "9a5be07346ab0884b2d9517475c27ef9db9b5104/splits/{}?inline=false"
)


def _archive(address: str, name: str, makes: str, md5s: dict[str, str]) -> Archive:
    """Return an archive from the MD5 of each of its parts, by what the part's name adds to the archive's."""
    parts = (RemoteFile(f"{name}{end}", f"{address}/{name}{end}", md5) for end, md5 in md5s.items())
    return Archive(name, tuple(parts), makes)


V2_TABLE = RemoteFile(v2.TABLE, f"{_V2_ADDRESS}/{v2.TABLE}", "55687065e77b6d0b0f1ff604a6e7b49c")
"""v2's table of pairs without snow, cloud or cloud shadow."""

_S1_MD5S = {"aa": "039b9ce305fc6582b2c3d60d1573f5b7", "ab": "e94f0ea165d04992ca91d8e58e82ec6d"}
_S2_MD5S = {"aa": "94e8ed32065234d3ab46353d814778d1", "ab": "24c223d9e36166136c13b24a27debe34"}
V2_ARCHIVES = (
    _archive(_V2_ADDRESS, "BigEarthNet-S1.tar.gz", v2.FOLDERS["s1"], _S1_MD5S),
    _archive(_V2_ADDRESS, "BigEarthNet-S2.tar.gz", v2.FOLDERS["s2"], _S2_MD5S),
    _archive(_V2_ADDRESS, "Reference_Maps.tar.gz", v2.MAPS_FOLDER, {"aa": "b0cd1f0a31b49fcbfd61d80f963e759d"}),
)
"""v2's pixels and land-cover maps."""

V1_ARCHIVES = (
    _archive(_V1_ADDRESS, "BigEarthNet-S1-v1.0.tar.gz", v1.FOLDERS["s1"], {"": "94ced73440dea8c7b9645ee738c5a172"}),
    _archive(_V1_ADDRESS, "BigEarthNet-S2-v1.0.tar.gz", v1.FOLDERS["s2"], {"": "5a64e9ce38deb036a435a7b59494924c"}),
)
"""v1's pixels and labels."""

_V1_LIST_MD5S: dict[Split, str] = {
    "train": "623e501b38ab7b12fe44f0083c00986d",
    "validation": "22efe8ed9cbd71fa10742ff7df2b7978",
    "test": "697fb90677e30571b9ac7699b7e5b432",
}
V1_LISTS = tuple(
    RemoteFile(name, _V1_LISTS_ADDRESS.format(name.removeprefix("bigearthnet-")), _V1_LIST_MD5S[split])
    for split, name in v1.SPLIT_LISTS.items()
)
"""v1's official splits."""


class BigEarthNetSource(Source):
    """BigEarthNet-MM; see `Source` for the methods and `BigEarthNetConfig` for the settings.

    Splits are the official ones, unchanged, because published scores are measured on them. No ground cell of 1.2 km is
    in two splits. In v2, test patches lie at least 11.9 km from train, while validation borders on both. In v1, every
    test patch borders on train, and 11 % of them, where tiles overlap, show the same ground as a train patch.

    Raises:
        SourceError: version 1 does not have what is requested.
    """

    name = "bigearthnet"
    classes = CLASSES
    licence = "BigEarthNet (Technische Universität Berlin): CDLA-Permissive-1.0"

    def __init__(self, version: int, countries: Sequence[str], snow_and_clouds: bool) -> None:
        hint = "correct data.source in params.yaml"
        if version == 1 and countries:
            problem = "Countries of BigEarthNet can only be chosen in version 2: version 1 does not state them."
            raise SourceError(problem, got=list(countries), expected="data.source.countries: []", hint=hint)
        if version == 1 and snow_and_clouds:
            problem = "Only version 2 has pairs with snow or clouds: version 1's official lists leave them out."
            raise SourceError(problem, got="data.source.snow_and_clouds: true", expected="false", hint=hint)
        self.map_classes = CLASSES if version == 2 else ()
        self._version, self._countries, self._snow_and_clouds = version, tuple(countries), snow_and_clouds

    def fetch(self, downloads: Path, raw: Path, options: DownloadOptions = DEFAULT_OPTIONS) -> dict[str, str]:
        """Fetch the tables and all archives, from v2 only the chosen countries; see `Source.fetch`."""
        if self._version == 1:
            sums = {file.name: _fetch_table(file, raw, options) for file in V1_LISTS}
            v1.listed_names(raw)  # finds a wrong list before 60 GB are transferred
            return {**sums, **fetch_archives(V1_ARCHIVES, downloads, raw, options)}
        # This table can't be fetched, so its absence is reported before 110 GB are transferred.
        flagged = {v2.FLAGGED_TABLE: _md5(v2.flagged_table(raw))} if self._snow_and_clouds else {}
        sums = {V2_TABLE.name: _fetch_table(V2_TABLE, raw, options), **flagged}
        # A table that contradicts itself is refused here too, even if all countries are taken.
        rows = v2.chosen_rows(raw, self._countries, snow_and_clouds=self._snow_and_clouds)
        if not self._countries:
            return {**sums, **fetch_archives(V2_ARCHIVES, downloads, raw, options)}
        choice = set(self._countries)
        if self._snow_and_clouds:
            # Added to the country's own entry, because the choice with flagged pairs includes the other pairs too.
            choice |= {f"{country} with snow and clouds" for country in self._countries}
        names = {*rows["patch_id"], *rows["s1_name"]}

        def is_wanted(member: str) -> bool:  # members are named <top folder>/<scene>/<patch>/<file>
            return not names.isdisjoint(member.split("/")[2:3])

        parts = fetch_archives(V2_ARCHIVES, downloads, raw, options, is_wanted, choice=choice)
        return {**sums, **parts, "countries": ", ".join(sorted(set(self._countries)))}

    def pairs(self, raw: Path) -> list[Pair]:
        """Return every chosen pair of the official tables or lists; a place is a ground cell of 1.2 km."""
        if self._version == 1:
            return v1.listed_pairs(raw)
        return v2.table_pairs(raw, self._countries, snow_and_clouds=self._snow_and_clouds)

    def read(self, raw: Path, pair: Pair) -> dict[str, NDArray[Any]]:
        """Read S1, float32 dB `[120, 120]`, and S2, uint16 `[120, 120]`, `[60, 60]` or `[20, 20]`, by band."""
        return read_patches(raw, pair)

    def read_map(self, raw: Path, pair: Pair) -> NDArray[np.uint8]:
        """Read the classes of v2's reference map `[120, 120]`; see `Source.read_map`."""
        return read_reference_map(raw, pair, CLASSES) if self._version == 2 else super().read_map(raw, pair)

    def facts(self, raw: Path) -> Facts:
        """Return the official counts of the chosen pairs, labels of known patches, and band statistics over v1."""
        is_v1 = self._version == 1
        return V1_FACTS if is_v1 else v2_facts(self._countries, snow_and_clouds=self._snow_and_clouds)


def _fetch_table(file: RemoteFile, raw: Path, options: DownloadOptions) -> str:
    """Fetch a table unless it is present, complete or shortened by the user, and return its MD5."""
    if not (raw / file.name).exists():
        fetch_file(file, raw / file.name, options)
    return _md5(raw / file.name)


def _md5(path: Path) -> str:
    with path.open("rb") as content:
        return f"md5:{hashlib.file_digest(content, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()}"
