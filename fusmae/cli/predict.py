"""`fusmae predict`: a map of a scene by a registered model."""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fusmae.cli.call import begin
from fusmae.cli.options import Model, RefuseOddPixels
from fusmae.cli.scene_files import SceneFiles, takes_scenes
from fusmae.errors import InputError

if TYPE_CHECKING:
    from fusmae.inference.map.predict import Map

_MOST_NAMED = 5


@takes_scenes
def predict(
    model: Model,
    out: Annotated[Path, typer.Option(help="The map, a GeoTIFF; its other files are named after it.")],
    files: SceneFiles,
    stride: Annotated[int | None, typer.Option(help="Metres from tile to tile; half a tile where absent.")] = None,
    date: Annotated[
        datetime | None, typer.Option(help="When the scene was taken, where file names don't tell.")
    ] = None,
    check: RefuseOddPixels = True,
) -> None:
    """Map a scene: class probabilities and confidence.

    The most probable class, a picture and a STAC item are written beside the map. One modality is enough. Each may have
    any grid, CRS and resolution. A command that was killed goes on where it was.

    A pixel of the map is the mean of the tiles that cover it, each counting most at its centre: a model that judges
    tiles of 1200 m shows nothing finer than that, however small the stride.

    Example: fusmae predict --model fusmae@champion --s1 scenes/s1.tif --s2 scenes/s2 --out map.tif
    """
    begin("predict", looks_up=model)
    from fusmae.inference.map.predict import Model as MapModel
    from fusmae.inference.map.predict import predict_map
    from fusmae.inference.session import Session
    from fusmae.release.registry.model_file import model_file

    if out.suffix.lower() not in (".tif", ".tiff") or out.is_dir():
        raise InputError("A map is a GeoTIFF.", got=f"--out {out}", expected="a file name that ends in .tif")
    file = model_file(model)
    session = Session(file.path)
    made = predict_map(
        MapModel(session, file.label, file.sha256),
        files.paths,
        out,
        readings=files.readings,
        stride_m=stride,
        is_checked=check,
        taken=date.replace(tzinfo=date.tzinfo or UTC) if date else None,
    )
    typer.echo(_summary(made, session.metadata["classes"]))


def _summary(made: "Map", classes: Sequence[str]) -> str:
    """Size of the map, share of its most frequent classes, and the files."""
    rows, columns = made.grid.shape
    known = int(made.counts[1:].sum())
    order = sorted(range(len(classes)), key=lambda number: -made.counts[number + 1])[:_MOST_NAMED]
    shares = [f"{made.counts[n + 1] / known:6.1%}  {classes[n]}" for n in order if made.counts[n + 1]] if known else []
    lines = [
        f"{made.num_tiles:,} tiles of {made.grid.tile_m} m, one every {made.grid.stride_m} m; "
        f"{rows} x {columns} pixels of {made.grid.cell_m} m, {made.counts[0]:,} without data",
        *shares,
        *made.nodata,
        *(f"wrote {path}" for path in made.files),
    ]
    return "\n".join(lines)
