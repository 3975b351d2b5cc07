"""`fusmae drift`: whether new scenes are unlike those that a model learned from."""

from pathlib import Path
from typing import Annotated

import typer

from fusmae.cli.call import begin, load_params
from fusmae.cli.options import Model
from fusmae.cli.scene_files import SceneFiles, takes_scenes

DRIFT_EXIT = 3
"""Exit code where the scenes drift."""


@takes_scenes
def drift(
    model: Model,
    files: SceneFiles,
    out: Annotated[Path, typer.Option(help="Folder for the report.")] = Path("reports/drift"),
    check: Annotated[bool, typer.Option(help="Count pixels that look like other units as drift.")] = True,
    reference: Annotated[
        Path | None, typer.Option(help="What to compare with, instead of what was registered with the model.")
    ] = None,
) -> None:
    """Compare new scenes with what a model learned from.

    Each band and the embedding are compared. See docs/embeddings.md.

    Exit code 0: alike; 3: drift, the report says in what; 1: an error, nothing was compared.

    Example: fusmae drift --model fusmae@champion --s1 scenes/s1.tif --s2 scenes/s2 --out reports/drift
    """
    config = load_params()
    begin("drift", looks_up=model)
    from fusmae.cli.compare_scenes import compare_scenes

    is_drift, text = compare_scenes(config, model=model, files=files, out=out, reference=reference, is_checked=check)
    typer.echo(text)
    if is_drift:
        raise typer.Exit(DRIFT_EXIT)
