"""Options of commands that read scenes."""

from collections.abc import Sequence
from enum import StrEnum
from typing import Annotated, Any

import typer


class Units(StrEnum):
    """Units of S1 files."""

    DB = "dB"
    POWER = "power"
    AMPLITUDE = "amplitude"


# Texts: a path would lose one slash of https:// before anything can say what is wrong with it.
S1 = Annotated[
    list[str] | None,
    typer.Option(
        metavar="PATH",
        help="Sentinel-1: a GeoTIFF, a folder or an archive (.zip, .tar) of them; may be given several times.",
    ),
]
S2 = Annotated[list[str] | None, typer.Option(metavar="PATH", help="Sentinel-2, likewise.")]
S1Bands = Annotated[str, typer.Option(help="Names of all S1 bands in file order: VV,VH.")]
S2Bands = Annotated[str, typer.Option(help="Names of all S2 bands in file order: B02,B03,…")]
S1Units = Annotated[Units, typer.Option(help="Of the S1 files; linear power and amplitude are converted to dB.")]
S2Offset = Annotated[
    int | None, typer.Option(help="What to take off S2: 1000 from processing baseline 04.00 on, 0 for nothing.")
]


def given(
    s1: Sequence[str] | None,
    s2: Sequence[str] | None,
    s1_bands: str,
    s2_bands: str,
    s1_units: Units,
    s2_offset: int | None,
) -> Any:
    """The scenes that these options name, as commands take them."""
    from fusmae.commands.reading import Given

    return Given(tuple(s1 or ()), tuple(s2 or ()), s1_bands, s2_bands, s1_units.value, s2_offset)
