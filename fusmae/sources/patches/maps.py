"""BigEarthNet v2's reference maps: CORINE codes at 10 m, one GeoTIFF per patch."""

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fusmae.data.index import Pair
from fusmae.data.pixels import NO_CLASS
from fusmae.sources.patches.bands import PATCH_M, RESTORE
from fusmae.sources.patches.geotiff import read_band
from fusmae.sources.patches.nomenclature import CLASS_OF_CODE
from fusmae.sources.patches.v2 import FOLDERS, MAPS_FOLDER
from fusmae.sources.shared.raster import check_same_ground, require_pixels

_SIDE_PX = PATCH_M // 10
_GROUND_BAND = "B02"
"""Band of the patch whose bounds the map must have; the other bands are compared with it when a pair is read."""


def read_reference_map(raw: Path, pair: Pair, classes: Sequence[str]) -> NDArray[np.uint8]:
    """Read a pair's reference map.

    Args:
        raw: folder of the raw data.
        pair: pair of v2.
        classes: names of the classes in the result, out of BigEarthNet's 19.

    Returns:
        Positions in `classes`, `[120, 120]`; `NO_CLASS` where CORINE has another class.

    Raises:
        PairError: the map is absent, unreadable, in another place, or of another size or type.
    """
    s2 = Path(pair.files["s2"])
    folder = raw / s2
    path = raw / MAPS_FOLDER / s2.relative_to(FOLDERS["s2"]) / f"{folder.name}_reference_map.tif"
    reference = read_band(path, pair.key)
    ground = read_band(folder / f"{folder.name}_{_GROUND_BAND}.tif", pair.key)
    check_same_ground(pair.key, {_GROUND_BAND: ground, "reference map": reference}, hint=RESTORE)
    require_pixels(pair.key, str(path), reference.pixels[0], (_SIDE_PX, _SIDE_PX), np.uint16, hint=RESTORE)
    positions: NDArray[np.uint8] = _positions(tuple(classes))[reference.pixels[0]]
    return positions


@lru_cache(maxsize=2)
def _positions(classes: tuple[str, ...]) -> NDArray[np.uint8]:
    """Return the position in `classes` by CORINE code, for every value of a uint16."""
    table = np.full(2**16, NO_CLASS, np.uint8)
    for code, name in CLASS_OF_CODE.items():
        if name in classes:
            table[code] = classes.index(name)
    return table
