"""`fusmae embed`: the embedding of every tile of a scene, or of every pair of a data set."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from fusmae.cli.call import begin
from fusmae.cli.options import Model, RefuseOddPixels
from fusmae.cli.scene_files import SceneFiles, takes_scenes


class _Split(StrEnum):
    TRAIN = "train"
    VALIDATION = "validation"
    TEST = "test"


@takes_scenes
def embed(
    model: Model,
    out: Annotated[Path, typer.Option(help="The table: GeoParquet.")],
    files: SceneFiles,
    stride: Annotated[int | None, typer.Option(help="Metres from tile to tile; a tile where absent.")] = None,
    check: RefuseOddPixels = True,
    shards: Annotated[Path | None, typer.Option(help="Embed a data set's pairs instead of a scene.")] = None,
    split: Annotated[_Split | None, typer.Option(help="Which of its splits; test where absent.")] = None,
    index: Annotated[Path | None, typer.Option(help="Its index, which says where the pairs are.")] = None,
) -> None:
    """Embed a scene's tiles or a data set's pairs, as a table.

    Every tile of a scene, or every pair of one split, is a row of a table to search. See docs/embeddings.md.

    Example: fusmae embed --model fusmae@champion --s1 scenes/s1.tif --s2 scenes/s2 --out embeddings.parquet

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
        split=split.value if split else None,
        index=index,
    )
    typer.echo(summary)
