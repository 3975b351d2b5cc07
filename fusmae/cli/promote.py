"""`fusmae promote`: the gate judges a version, which becomes champion if it passes."""

from pathlib import Path
from typing import Annotated

import typer

from fusmae.cli.call import begin, global_options, load_params
from fusmae.cli.options import ModelName


def promote(
    name: ModelName,
    version: Annotated[
        str, typer.Option(help="Alias or number of the version that shall become champion; by default the challenger.")
    ] = "",
    experiment: Annotated[
        str,
        typer.Option(
            help="DVC experiment whose parameters and results are committed first, as `dvc exp show` names it; "
            "`workspace` for what was run last here. Its version is judged."
        ),
    ] = "",
    shards: Annotated[Path, typer.Option(help="Shards whose test split both are judged on.")] = Path("data/shards"),
    index: Annotated[Path, typer.Option(help="Index, which says what is of one place.")] = Path("data/index.parquet"),
    verdict: Annotated[Path, typer.Option(help="The examination's, which names the shards.")] = Path(
        "data/verdict.json"
    ),
    reports: Annotated[Path, typer.Option(help="Where the gate's verdict goes.")] = Path("reports/gate"),
    force: Annotated[bool, typer.Option("--force", help="Go on where the gate says no; needs --reason.")] = False,
    reason: Annotated[str, typer.Option(help="Why, and who agreed; stands in the ledger for good.")] = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only judge; fails where the gate says no.")] = False,
) -> None:
    """Make a version champion if the gate lets it pass.

    The gate judges it against the champion of now, on the test split.

    Example: fusmae promote fusmae --experiment workspace

    Example: fusmae promote fusmae --version 4 --force --reason "agreed with A. Person: needed for the flood"
    """
    config = load_params()
    begin("promote", looks_up=name)
    from fusmae.cli.promote_version import Evidence, promote_version

    text = promote_version(
        config,
        params=global_options.params,
        name=name,
        version=version,
        evidence=Evidence(shards, index, verdict),
        reports=reports,
        experiment=experiment,
        registered=Path("reports/register/version.json"),  # as dvc.yaml has it
        force=force,
        reason=reason,
        dry_run=dry_run,
    )
    typer.echo(text)
