"""The commands on scenes: a map, embeddings, whether a scene is unlike what a model learned from, pairs to train on."""

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from fusmae.cli.call import begin, load_params
from fusmae.cli.options import Device, Model, RefuseOddPixels
from fusmae.cli.scene_files import SceneFiles, takes_scenes
from fusmae.errors import InputError

if TYPE_CHECKING:
    from fusmae.config.task import Task
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
    probabilities: Annotated[
        bool,
        typer.Option("--probabilities", help="Write the probability of each class, too, of a segmentation at 10 m."),
    ] = False,
    check: RefuseOddPixels = True,
    device: Device = "auto",
) -> None:
    """Map a scene: classes, values or probabilities.

    The kind of the model decides. A segmentation gives the most probable class of each pixel of 10 m, with colours and
    names; a regression gives values. A model of classes per tile gives probabilities and confidence, and the most
    probable class beside them. A picture and a STAC item are written beside the map. See docs/maps.md.

    One modality is enough. Each may have any grid, CRS and resolution. A command that was killed goes on where it was.

    A pixel of the map is the mean of the tiles that cover it, each counting most at its centre: a model that judges
    tiles of 1200 m as a whole shows nothing finer than that, however small the stride.

    Example: fusmae predict --model fusmae@champion --s1 scenes/s1.tif --s2 scenes/s2 --out map.tif

    Example: fusmae predict --model cover@champion --s2 scenes/s2 --out cover.tif --probabilities

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
        has_probabilities=probabilities,
    )
    typer.echo(_summary(made, session.require_task(file.label)))


def _summary(made: "Map", task: "Task") -> str:
    """Size of the map, share of its most frequent classes or the range of its values, and the files."""
    rows, columns = made.grid.shape
    empty, *by_class = (int(count) for count in made.contents.counts)
    lines = [
        f"{made.num_tiles:,} tiles of {made.grid.tile_m} m, one every {made.grid.stride_m} m; "
        f"{rows} x {columns} pixels of {made.grid.cell_m} m, {empty:,} without data"
    ]
    if task.value is not None and made.contents.mean is not None:
        low, mean, high = (f"{value:.4g}" for value in (made.contents.low, made.contents.mean, made.contents.high))
        lines.append(f"{task.value.title}: minimum {low}, mean {mean}, maximum {high}")
    shown = sorted(range(len(task.classes)), key=lambda number: -by_class[number])[:_MOST_NAMED]
    lines += [
        *(f"{by_class[number] / sum(by_class):6.1%}  {task.classes[number]}" for number in shown if by_class[number]),
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


@takes_scenes
def tile(
    files: SceneFiles,
    labels: Annotated[
        Path | None,
        typer.Option(
            help="Polygons or points, as in a GeoPackage, or a raster of class numbers; a raster of numbers for a "
            "regression; in any CRS."
        ),
    ] = None,
    kind: Annotated[
        Literal["multilabel", "multiclass", "segmentation", "regression"] | None,
        typer.Option(
            help="Kind of labels: all classes of a tile, its largest one, a map of classes, or values; if absent, "
            "multilabel, or that of the pairs that are there."
        ),
    ] = None,
    value: Annotated[
        str, typer.Option(metavar="NAME", help="Quantity of a regression, whose numbers --labels has, such as biomass.")
    ] = "",
    unit: Annotated[str, typer.Option(help="Unit of the quantity, such as t/ha.")] = "",
    per: Annotated[
        Literal["tile", "pixel"] | None,
        typer.Option(help="What has one number of the quantity: a tile, the mean over it, or each pixel of 10 m."),
    ] = None,
    class_column: Annotated[str, typer.Option(help="Column with the class of each polygon or point.")] = "",
    layer: Annotated[str, typer.Option(help="Layer of the labels, where their file has several.")] = "",
    classes: Annotated[
        list[str] | None,
        typer.Option(
            metavar="VALUE=NAME",
            help="Class name of a value of the column or the raster, or a JSON file of such names; other values are no "
            "labels. May be given several times.",
        ),
    ] = None,
    min_share: Annotated[
        float,
        typer.Option(min=0, max=1, help="Least share of a tile that a class or a tile's value covers to be a label."),
    ] = 0.05,
    keep_unlabelled: Annotated[
        bool, typer.Option("--keep-unlabelled", help="Keep tiles without a label, too, to pretrain on.")
    ] = False,
    out: Annotated[Path, typer.Option(help="Folder of the pairs.")] = Path("data/raw/folder"),
    append: Annotated[bool, typer.Option("--append", help="Add another scene to the pairs that are there.")] = False,
    name: Annotated[str, typer.Option(help="What the pairs' names begin with; the S2 file's name where absent.")] = "",
    date: Annotated[
        datetime | None, typer.Option(help="When the scene was taken, where file names don't tell.")
    ] = None,
    side: Annotated[
        int | None, typer.Option(min=1, help="Side of a tile in metres; data.tile_m of params.yaml where absent.")
    ] = None,
    without: Annotated[str, typer.Option(metavar="BANDS", help="Bands that the scene lacks: B01,B09.")] = "",
    max_nodata: Annotated[
        float, typer.Option(min=0, max=1, help="Largest share of a tile that may lack data, in each modality.")
    ] = 0.1,
    block: Annotated[
        int | None,
        typer.Option(
            min=1, help="Side in metres of blocks of ground that are in one split; by the scene's size if absent."
        ),
    ] = None,
    gap: Annotated[
        int | None,
        typer.Option(min=0, help="Least distance in metres of tiles of two splits; a tile's side if absent."),
    ] = None,
    shares: Annotated[str, typer.Option(help="Shares of train, validation and test.")] = "70,15,15",
    check: RefuseOddPixels = True,
) -> None:
    """Cut a scene into pairs to train on.

    Tiles side by side become pairs in the layout of docs/folder.md, with labels if there are some. Ground is split by
    blocks, so that no tile is near one of another split; scenes that are added later agree. Bands are those that
    data.modalities in params.yaml has. A command that was killed goes on where it was.

    `dvc exp run -S data=folder` takes the kind of labels, classes, bands and the tile's side from the folder.

    Example: fusmae tile --s1 scenes/s1.tif --s2 scenes/s2 --labels fields.gpkg --class-column crop

    Example: fusmae tile --s1 may/s1.tif --s2 may/s2 --labels cover.tif --classes 1=water --classes 2=forest
    --append --name may --s1-units power --s2-offset 1000

    Example: fusmae tile --s1 scenes/s1.tif --s2 scenes/s2 --labels biomass.tif --kind regression --value biomass
    --unit t/ha --per pixel
    """
    config = load_params()
    begin("tile")
    from fusmae.cli.cut_scenes import class_names, cut_scenes
    from fusmae.config.task import Value
    from fusmae.inference.pairs.label_file import LabelFile

    if labels is None and (class_column or layer or classes):
        raise InputError(
            "Options say how to read labels, but there are none.", hint="add --labels PATH, or leave them out"
        )
    if not value and (unit or per):
        raise InputError("--unit and --per describe a quantity, which has no name.", hint="--value biomass --unit t/ha")
    cut_scenes(
        config,
        files,
        out,
        name=name,
        side=side,
        block=block,
        gap=gap,
        shares=shares,
        without=without,
        labels=LabelFile(labels, class_column, layer, class_names(classes or ())) if labels else None,
        kind=kind,
        value=Value(name=value, unit=unit, per=per or "tile") if value else None,
        max_nodata=max_nodata,
        min_share=min_share,
        keeps_unlabelled=keep_unlabelled,
        date=date,
        appends=append,
        is_checked=check,
    )
