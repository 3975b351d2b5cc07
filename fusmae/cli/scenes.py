"""Commands that turn scenes into maps."""

from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

from fusmae.cli.call import run_command
from fusmae.cli.scene_options import S1, S2, S1Bands, S1Units, S2Bands, S2Offset, Units, given

app = typer.Typer()


@app.command()
def predict(
    model: Annotated[str, typer.Option(help="NAME@ALIAS, NAME/VERSION, or an ONNX file.")],
    out: Annotated[Path, typer.Option(help="The map, a GeoTIFF; its other files are named after it.")],
    s1: S1 = None,
    s2: S2 = None,
    stride: Annotated[int | None, typer.Option(help="Metres from tile to tile; half a tile where absent.")] = None,
    s1_bands: S1Bands = "",
    s2_bands: S2Bands = "",
    s1_units: S1Units = Units.DB,
    s2_offset: S2Offset = None,
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
            given=given(s1, s2, s1_bands, s2_bands, s1_units, s2_offset),
            out=out,
            stride=stride,
            date=date,
            is_checked=check,
        )
    )
