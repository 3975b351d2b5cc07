"""Commands that turn scenes into maps."""

from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from fusmae.cli.call import run_command

app = typer.Typer()


class _Units(StrEnum):
    DB = "dB"
    POWER = "power"


@app.command()
def predict(
    model: Annotated[str, typer.Option(help="NAME@ALIAS, NAME/VERSION, or an ONNX file.")],
    out: Annotated[Path, typer.Option(help="The map, a GeoTIFF; its other files are named after it.")],
    s1: Annotated[
        list[Path] | None, typer.Option(help="Sentinel-1: a GeoTIFF or a folder of them; may be given several times.")
    ] = None,
    s2: Annotated[list[Path] | None, typer.Option(help="Sentinel-2, likewise.")] = None,
    stride: Annotated[int | None, typer.Option(help="Metres from tile to tile; half a tile where absent.")] = None,
    s1_bands: Annotated[str, typer.Option(help="Names of all S1 bands in file order: VV,VH.")] = "",
    s2_bands: Annotated[str, typer.Option(help="Names of all S2 bands in file order: B02,B03,…")] = "",
    s1_units: Annotated[_Units, typer.Option(help="`power` converts S1 from linear power.")] = _Units.DB,
    s2_offset: Annotated[
        int | None, typer.Option(help="What to take off S2: 1000 from processing baseline 04.00 on.")
    ] = None,
    date: Annotated[
        datetime | None, typer.Option(help="When the scene was taken, where file names don't tell.")
    ] = None,
    check: Annotated[bool, typer.Option(help="Refuse pixels that look like other units than the model's.")] = True,
) -> None:
    """Map a scene: class probabilities and confidence, the most probable class, a picture and a STAC item.

    One sensor is enough. Both may have any grid, CRS and resolution. Killed, it goes on where it was.

    A pixel of the map is the mean of the tiles that cover it, each counting most at its centre: a model that judges
    tiles of 1200 m shows nothing finer than that, however small the stride.

    Example: fusmae predict --model fusmae@champion --s1 scenes/s1.tif --s2 scenes/s2 --out map.tif
    """
    typer.echo(
        run_command(
            "predict",
            model=model,
            s1=s1 or [],
            s2=s2 or [],
            out=out,
            stride=stride,
            s1_bands=s1_bands,
            s2_bands=s2_bands,
            s1_units=s1_units.value,
            s2_offset=s2_offset,
            date=date,
            is_checked=check,
        )
    )
