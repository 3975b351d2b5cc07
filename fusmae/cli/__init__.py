"""The command line: one command a stage, and what is done with a registered model."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from fusmae.cli import doctor, embeddings, lineage, release, results, scenes, serve, stages, study, ui
from fusmae.cli.call import options
from fusmae.errors import FusmaeError
from fusmae.runs.environment import keep_caches_inside, wait_without_spinning
from fusmae.runs.exit_code import exit_code, note_begin, note_end

app = typer.Typer(
    help="Fus-MAE as a pipeline. `dvc repro` calls the stages in order; each can be run alone.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)
for group in (stages, release, lineage, scenes, embeddings, serve, results, doctor, study, ui):
    app.add_typer(group.app)


@app.callback()
def _globals(
    params: Annotated[Path, typer.Option(help="Parameters, as `dvc exp run -S` composes them.")] = Path("params.yaml"),
    debug: Annotated[bool, typer.Option(help="Show the traceback of an error.")] = False,
) -> None:
    options.update(params=params, debug=debug)


def main(arguments: list[str] | None = None) -> None:
    """Run the command line; a user's mistake becomes one paragraph and a non-zero exit code (see `outcome`)."""
    keep_caches_inside(Path.cwd())
    wait_without_spinning()
    note_begin()
    try:
        app(arguments)
    except BaseException as error:
        code = exit_code(error)
        note_end(code)
        if isinstance(error, SystemExit):
            sys.exit(code)
        if not isinstance(error, FusmaeError) or options["debug"]:
            raise
        typer.echo(f"fusmae: {error}", err=True)
        sys.exit(code)
