"""Sentences for people on how much of a scene has no data, and why."""

from collections import Counter
from collections.abc import Mapping

from fusmae.rasters.raster_file import MASKED, NOT_FINITE, STATED

PIXELS = "pixels"
ALL_ZERO = "0 in all bands"
ALL_ONE = "1 in all bands"
SOME_BANDS = "without data in some bands only"
_REASONS = (STATED, MASKED, NOT_FINITE, ALL_ZERO)
_MAX_SHARE_OF_SOME_BANDS = 0.01

LOOK_AT_NODATA = (
    "look at the files: `rio info` shows what they state as nodata; what is not finite, what a mask or an alpha band "
    "hides, and 0 in all bands have no data either"
)


def nodata_sentences(tallies: Mapping[str, Counter[str]]) -> tuple[str, ...]:
    """Describe pixels without data, by input: one sentence, and one for each finding that may be unexpected.

    A tally has under `PIXELS` the number of pixels that were read, under each finding that of those it applies to.
    """
    found = []
    for name, tally in tallies.items():
        if reasons := [f"{tally[reason]:,} {reason}" for reason in _REASONS if tally[reason]]:
            share = sum(tally[reason] for reason in _REASONS) / tally[PIXELS]
            found.append(f"{name}: {share:.1%} of {tally[PIXELS]:,} pixels have no data: {', '.join(reasons)}")
        if tally[SOME_BANDS] > _MAX_SHARE_OF_SOME_BANDS * tally[PIXELS]:
            found.append(
                f"{name}: {tally[SOME_BANDS]:,} pixels are {SOME_BANDS}, and count as no data; if 0 is a value there, "
                "as over dark water, and the files state it as nodata: rio edit-info FILE --unset-nodata"
            )
        if tally[ALL_ONE]:
            found.append(
                f"{name}: {tally[ALL_ONE]:,} pixels are {ALL_ONE}, as along the edge of a swath; they are taken for "
                "data: if they are none, set them to 0 in all bands"
            )
    return tuple(found)
