"""The commands on scenes: a map, embeddings, and whether a scene is unlike what a model learned from."""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from fusmae.cli.call import begin, load_params
from fusmae.cli.options import Device, Model, RefuseOddPixels
from fusmae.cli.scene_files import SceneFiles, takes_scenes
from fusmae.errors import InputError

if TYPE_CHECKING:
    from fusmae.inference.map.predict import Map

DRIFT_EXIT = 3
"""Exit code where the scenes drift."""
_MOST_NAMED = 5


@takes_scenes
def predict(
    model: Model,
    out: Annotated[Path, typer.Option(help="The map, a GeoTIFF; its other files are named after it.")],
    files: SceneFiles,
    stride: Annotated[int | None, typer.Option(help="Metres from tile to tile; half a tile where absent.")] = None,
    date: Annotated[
        datetime | None, typer.Option(help="When the scene was taken, where neither STAC nor file names tell.")
    ] = None,
    check: RefuseOddPixels = True,
    device: Device = "auto",
) -> None:
    """Map a scene: class probabilities and confidence.

    The most probable class, a picture and a STAC item are written beside the map. One modality is enough. Each may have
    any grid, CRS and resolution. A command that was killed goes on where it was.

    A pixel of the map is the mean of the tiles that cover it, each counting most at its centre: a model that judges
    tiles of 1200 m shows nothing finer than that, however small the stride.

    Example: fusmae predict --model fusmae@champion --s1 scenes/s1.tif --s2 scenes/s2 --out map.tif

    Example: fusmae predict --model fusmae@champion --s2 item.json --bbox 13.3,48.1,13.5,48.3 --out map.tif

    Example: fusmae predict --model fusmae@champion --search https://earth-search.aws.element84.com/v1
    --collection sentinel-2-l2a --bbox 13.3,48.1,13.5,48.3 --datetime 2024-06-01/2024-06-30 --out map.tif
    """
    begin("predict", looks_up=model)
    from fusmae.inference.map.predict import Model as MapModel
    from fusmae.inference.map.predict import predict_map
    from fusmae.inference.session import Session
    from fusmae.release.registry.model_file import model_file

    if out.suffix.lower() not in (".tif", ".tiff") or out.is_dir():
        raise InputError("A map is a GeoTIFF.", got=f"--out {out}", expected="a file name that ends in .tif")
    file = model_file(model)
    session = Session(file.path, device=device)
    files = files.with_found(session.inputs)
    made = predict_map(
        MapModel(session, file.label, file.sha256),
        files.paths,
        out,
        readings=files.readings,
        stride_m=stride,
        is_checked=check,
        taken=date.replace(tzinfo=date.tzinfo or UTC) if date else None,
        bbox=files.bbox,
    )
    typer.echo(_summary(made, session.classes))


def _summary(made: "Map", classes: Sequence[str]) -> str:
    """Size of the map, share of its most frequent classes, and the files."""
    rows, columns = made.grid.shape
    by_class = made.counts[1:]
    shown = [number for number in (-by_class).argsort(kind="stable")[:_MOST_NAMED] if by_class[number]]
    lines = [
        f"{made.num_tiles:,} tiles of {made.grid.tile_m} m, one every {made.grid.stride_m} m; "
        f"{rows} x {columns} pixels of {made.grid.cell_m} m, {made.counts[0]:,} without data",
        *(f"{by_class[number] / by_class.sum():6.1%}  {classes[number]}" for number in shown),
        *made.nodata,
        *(f"wrote {path}" for path in made.files),
    ]
    return "\n".join(lines)


@takes_scenes
def embed(
    model: Model,
    out: Annotated[Path, typer.Option(help="The table: GeoParquet.")],
    files: SceneFiles,
    stride: Annotated[int | None, typer.Option(help="Metres from tile to tile; a tile where absent.")] = None,
    check: RefuseOddPixels = True,
    shards: Annotated[Path | None, typer.Option(help="Embed a data set's pairs instead of a scene.")] = None,
    split: Annotated[
        Literal["train", "validation", "test"] | None, typer.Option(help="Which of its splits; test where absent.")
    ] = None,
    index: Annotated[Path | None, typer.Option(help="Its index, which says where the pairs are.")] = None,
    device: Device = "auto",
) -> None:
    """Embed a scene's tiles or a data set's pairs, as a table.

    Every tile of a scene, or every pair of one split, is a row of a table to search. See docs/embeddings.md.

    Example: fusmae embed --model fusmae@champion --s1 scenes/s1.tif --s2 scenes/s2 --out embeddings.parquet

    Example: fusmae embed --model fusmae@champion --s2 item.json --bbox 13.3,48.1,13.5,48.3 --out embeddings.parquet

    Example: fusmae embed --model fusmae@champion --shards data/shards --split train --index data/index.parquet
    --out train.parquet
    """
    begin("embed", looks_up=model)
    from fusmae.cli.write_embeddings import write_embeddings

    summary = write_embeddings(
        model=model,
        files=files,
        out=out,
        stride=stride,
        is_checked=check,
        shards=shards,
        split=split,
        index=index,
        device=device,
    )
    typer.echo(summary)


@takes_scenes
def drift(
    model: Model,
    files: SceneFiles,
    out: Annotated[Path, typer.Option(help="Folder for the report.")] = Path("reports/drift"),
    check: Annotated[bool, typer.Option(help="Count pixels that look like other units as drift.")] = True,
    reference: Annotated[
        Path | None, typer.Option(help="What to compare with, instead of what was registered with the model.")
    ] = None,
    device: Device = "auto",
) -> None:
    """Compare new scenes with what a model learned from.

    Each band and the embedding are compared. See docs/embeddings.md.

    Exit code 0: alike; 3: drift, the report says in what; 1: an error, nothing was compared.

    Example: fusmae drift --model fusmae@champion --s1 scenes/s1.tif --s2 scenes/s2 --out reports/drift

    Example: fusmae drift --model fusmae@champion --s2 item.json --out reports/drift
    """
    config = load_params()
    begin("drift", looks_up=model)
    from fusmae.cli.compare_scenes import compare_scenes

    is_drift, text = compare_scenes(
        config, model=model, files=files, out=out, reference=reference, is_checked=check, device=device
    )
    typer.echo(text)
    if is_drift:
        raise typer.Exit(DRIFT_EXIT)
