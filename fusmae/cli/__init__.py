"""The command line: one command per stage, and what is done with scenes, models and studies."""

import sys
from collections.abc import Callable, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Annotated

import typer

from fusmae.cli import models, project, scenes, stages, study
from fusmae.cli.call import global_options
from fusmae.cli.help import CommandWithExample, GroupedCommands
from fusmae.errors import FusmaeError
from fusmae.runs.environment import collect_garbage_rarely, keep_caches_inside, wait_without_spinning
from fusmae.runs.exit_code import exit_code, note_begin, note_end

app = typer.Typer(
    cls=GroupedCommands,
    help="Fus-MAE as a pipeline. `dvc repro` calls the stages in order; each can be run alone.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

_PANELS: dict[str, Sequence[Callable[..., None]]] = {
    "Pipeline stages": stages.COMMANDS,
    "Whole pipeline": (project.update, project.summary),
    "Models": (models.promote, models.rollback, models.ledger, models.lineage, models.reproduce, models.serve),
    "Scenes": (scenes.predict, scenes.embed, scenes.drift, scenes.tile),
    "Study": (study.study, study.study_pretrain, study.study_measure, study.study_report),
    "Help": (project.doctor, project.ui),
}
for _panel, _commands in _PANELS.items():
    for _command in _commands:
        app.command(cls=CommandWithExample, rich_help_panel=_panel)(_command)


def _print_version(is_asked: bool) -> None:
    if not is_asked:
        return
    try:
        typer.echo(f"fusmae {version('fusmae')}")
    except PackageNotFoundError as error:
        raise FusmaeError(
            "This code has no version, for it is not installed.",
            got="a folder on Python's path",
            expected="a package that pip knows",
            hint="pip install -e .",
        ) from error
    raise typer.Exit


@app.callback()
def _set_globals(
    params: Annotated[Path, typer.Option(help="Parameters, as `dvc exp run -S` composes them.")] = Path("params.yaml"),
    debug: Annotated[bool, typer.Option(help="Show the traceback of an error.")] = False,
    _version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_print_version, help="Show the version and exit.")
    ] = False,
) -> None:
    global_options.params, global_options.debug = params, debug


def main(arguments: list[str] | None = None) -> None:
    """Run the command line; a user's mistake becomes one paragraph and a non-zero exit code (see `exit_code`)."""
    keep_caches_inside(Path.cwd())
    wait_without_spinning()
    collect_garbage_rarely()
    note_begin()
    try:
        app(arguments)
    except BaseException as error:
        code = exit_code(error)
        note_end(code)
        if isinstance(error, SystemExit):
            sys.exit(code)
        if not isinstance(error, FusmaeError) or global_options.debug:
            raise
        typer.echo(f"fusmae: {error}", err=True)
        sys.exit(code)
