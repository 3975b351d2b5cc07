"""Commands about a model's embedding space."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from fusmae.cli.call import load_params, run_command
from fusmae.cli.scene_options import S1, S2, S1Bands, S1Units, S2Bands, S2Offset, Units, given

app = typer.Typer()

DRIFT_EXIT = 3


class _Split(StrEnum):
    TRAIN = "train"
    VALIDATION = "validation"
    TEST = "test"


Model = Annotated[str, typer.Option(help="NAME@ALIAS, NAME/VERSION, or an ONNX file.")]


@app.command()
def embed(
    model: Model,
    out: Annotated[Path, typer.Option(help="The table: GeoParquet.")],
    s1: S1 = None,
    s2: S2 = None,
    stride: Annotated[int | None, typer.Option(help="Metres from tile to tile; a tile where absent.")] = None,
    s1_bands: S1Bands = "",
    s2_bands: S2Bands = "",
    s1_units: S1Units = Units.DB,
    s2_offset: S2Offset = None,
    check: Annotated[bool, typer.Option(help="Refuse pixels that look like other units than the model's.")] = True,
    shards: Annotated[Path | None, typer.Option(help="Embed a data set's pairs instead of a scene.")] = None,
    split: Annotated[_Split | None, typer.Option(help="Which of its splits; test where absent.")] = None,
    index: Annotated[Path | None, typer.Option(help="Its index, which says where the pairs are.")] = None,
) -> None:
    """Embed every tile of a scene, or every pair of a data set, as a table to search. See docs/embeddings.md.

    Example: fusmae embed --model fusmae@champion --s1 scenes/s1.tif --s2 scenes/s2 --out embeddings.parquet

    Example: fusmae embed --model fusmae@champion --shards data/shards --split train --index data/index.parquet
    --out train.parquet
    """
    typer.echo(
        run_command(
            "embed",
            model=model,
            given=given(s1, s2, s1_bands, s2_bands, s1_units, s2_offset),
            out=out,
            stride=stride,
            is_checked=check,
            shards=shards,
            split=split.value if split else None,
            index=index,
        )
    )


@app.command()
def drift(
    model: Model,
    out: Annotated[Path, typer.Option(help="Folder for the report.")] = Path("reports/drift"),
    s1: S1 = None,
    s2: S2 = None,
    s1_bands: S1Bands = "",
    s2_bands: S2Bands = "",
    s1_units: S1Units = Units.DB,
    s2_offset: S2Offset = None,
    check: Annotated[bool, typer.Option(help="Count pixels that look like other units as drift.")] = True,
    reference: Annotated[
        Path | None, typer.Option(help="What to compare with, instead of what was registered with the model.")
    ] = None,
) -> None:
    """Compare new scenes with what a model learned from: each band, and the embedding. See docs/embeddings.md.

    Exit code 0: alike; 3: drift, the report says in what; 1: an error, nothing was compared.

    Example: fusmae drift --model fusmae@champion --s1 scenes/s1.tif --s2 scenes/s2 --out reports/drift
    """
    scenes = given(s1, s2, s1_bands, s2_bands, s1_units, s2_offset)
    config, arguments = load_params(), {"model": model, "given": scenes, "out": out, "reference": reference}
    is_drift, text = run_command("drift", config=config, is_checked=check, **arguments)
    typer.echo(text)
    if is_drift:
        raise typer.Exit(DRIFT_EXIT)
