"""Linear backscatter in a user's files: converted to dB, and refused where its levels are those of the other unit."""

from collections import defaultdict
from collections.abc import Iterable, Mapping

import numpy as np
from numpy.typing import NDArray

from fusmae.errors import PairError, SourceError
from fusmae.rasters.s1_units import HOW_TO_TELL, LinearUnits, contradiction, to_decibels, weigh
from fusmae.sources.shared.raster import Raster
from fusmae.units import MAX_NEGATIVE_SHARE


def decibels_of(key: str, modality: str, raster: Raster, units: LinearUnits) -> NDArray[np.float32]:
    """Pixels `[C, h, w]` of a file in dB, NaN where a band has no data or no power.

    Raises:
        PairError: too many pixels are negative, so that they are not linear.
    """
    pixels = raster.pixels.astype(np.float32)
    if raster.nodata is not None:
        pixels[raster.nodata] = np.nan
    if (negative := float((pixels < 0).mean())) > MAX_NEGATIVE_SHARE:
        raise PairError(
            "units",
            f"Pair {key}: {raster.path} is no linear {units}: it has negative pixels.",
            got=f"{negative:.0%} of the pixels are negative",
            expected=f"{units}, never negative, as data.source.units.{modality} says",
            hint=f"-S data.source.units.{modality}=dB if the files are in dB; if these are nodata, say so in the file",
        )
    return to_decibels(pixels, units)


def require_stated(modality: str, rasters: Iterable[Raster], units: LinearUnits) -> None:
    """Refuse files of pairs from all over a folder whose levels are those of the other linear unit.

    Raises:
        SourceError: power is much likelier than the stated amplitude, or the other way round.
    """
    parts: Mapping[str, list[NDArray[np.float32]]] = defaultdict(list)
    for raster in rasters:
        for name, band in zip(raster.names, raster.pixels, strict=True):
            parts[name].append(band[band > 0].astype(np.float32))
    evidence = weigh({name: np.concatenate(found) for name, found in parts.items()})
    if reason := contradiction(evidence, units):
        (other,) = {"power", "amplitude"} - {units}
        raise SourceError(
            f"The files of {modality} look like {other}, not {units}.",
            got=evidence.described,
            expected=f"levels of ground as {units}, as data.source.units.{modality} says; {reason}",
            hint=f"-S data.source.units.{modality}={other} converts them; {HOW_TO_TELL}",
        )
