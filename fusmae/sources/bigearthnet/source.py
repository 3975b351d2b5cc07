"""BigEarthNet-MM as it is published: version 1, and version 2 (reBEN)."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fusmae.data.index import Pair
from fusmae.errors import SourceError
from fusmae.sources.bigearthnet import v1
from fusmae.sources.patches import v2
from fusmae.sources.patches.facts import v1_facts, v2_facts
from fusmae.sources.patches.geotiff import read_patches
from fusmae.sources.patches.maps import read_reference_map
from fusmae.sources.patches.nomenclature import CLASSES
from fusmae.sources.shared.source import Facts, no_maps


class BigEarthNetSource:
    """BigEarthNet-MM; see `Source` for the methods.

    Splits are the official ones, unchanged, because published scores are measured on them. No ground cell of 1.2 km is
    in two splits. In v2, test patches lie at least 11.9 km from train, while validation borders on both. In v1, every
    test patch borders on train, and 11 % of them, where tiles overlap, show the same ground as a train patch.

    Args:
        version: version of the dataset: 1, or 2 (reBEN).
        countries: names of countries as v2's table spells them; empty for all. Only v2 states countries.
        snow_and_clouds: whether to take pairs with seasonal snow, cloud or cloud shadow too. Only v2 has splits for
            them.

    Raises:
        SourceError: version 1 does not have what is requested.
    """

    name = "bigearthnet"
    classes = CLASSES
    is_synthetic = False
    licence = "BigEarthNet (Technische Universität Berlin): CDLA-Permissive-1.0"

    def __init__(self, version: int, countries: Sequence[str], snow_and_clouds: bool) -> None:
        if version not in (1, 2):
            raise SourceError("BigEarthNet has no such version.", got=version, expected="1 or 2")
        if version == 1 and countries:
            raise SourceError(
                "Countries of BigEarthNet can only be chosen in version 2: version 1 does not state them.",
                got=list(countries),
                expected="data.source.countries: []",
                hint="mend data.source in params.yaml",
            )
        if version == 1 and snow_and_clouds:
            raise SourceError(
                "Pairs with snow or clouds can only be had in version 2: version 1's official lists leave them out.",
                got="data.source.snow_and_clouds: true",
                expected="false",
                hint="mend data.source in params.yaml",
            )
        self.map_classes = CLASSES if version == 2 else ()
        self._version = version
        self._countries = tuple(countries)
        self._snow_and_clouds = snow_and_clouds

    def fetch(
        self, downloads: Path, raw: Path, *, mirrors: Sequence[str] = (), num_connections: int = 4
    ) -> dict[str, str]:
        """Fetch the tables and all archives, from v2 only the chosen countries; see `Source.fetch`."""
        from fusmae.sources.bigearthnet.archives import fetch_v1, fetch_v2
        from fusmae.sources.transfer.remote import DownloadOptions

        line = DownloadOptions(tuple(mirrors), num_connections)
        if self._version == 1:
            return fetch_v1(downloads, raw, line)
        return fetch_v2(downloads, raw, line, self._countries, snow_and_clouds=self._snow_and_clouds)

    def pairs(self, raw: Path) -> list[Pair]:
        """Return every chosen pair of the official tables or lists; a place is a ground cell of 1.2 km.

        Raises:
            SourceError: a table or list is absent, damaged or of another dataset.
        """
        if self._version == 1:
            return v1.listed_pairs(raw)
        return v2.table_pairs(raw, self._countries, snow_and_clouds=self._snow_and_clouds)

    def read(self, raw: Path, pair: Pair) -> dict[str, NDArray[Any]]:
        """Read S1, float32 dB `[120, 120]`, and S2, uint16 `[120, 120]`, `[60, 60]` or `[20, 20]`, by band.

        Raises:
            PairError: a modality or a band is missing, unreadable, in another place, or of another size or type.
        """
        return read_patches(raw, pair)

    def read_map(self, raw: Path, pair: Pair) -> NDArray[np.uint8]:
        """Read the classes of v2's reference map `[120, 120]`; see `Source.read_map`."""
        if self._version == 1:
            raise no_maps("BigEarthNet v1", pair)
        return read_reference_map(raw, pair, self.map_classes)

    def facts(self, raw: Path) -> Facts:
        """Return the official counts of the chosen pairs, labels of known patches, and band statistics over v1."""
        if self._version == 1:
            return v1_facts()
        return v2_facts(self._countries, snow_and_clouds=self._snow_and_clouds)
