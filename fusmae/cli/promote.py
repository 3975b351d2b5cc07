"""Commands that decide which version is champion."""

from pathlib import Path
from typing import Annotated

import typer

from fusmae.cli.call import load_params, options, run_command

app = typer.Typer()

Name = Annotated[str, typer.Argument(help="Registered model, as `register_as.model_name` has it.")]


@app.command()
def promote(
    name: Name,
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
    """Judge a version against the champion, and make it champion if the gate lets it pass.

    Example: fusmae promote fusmae --experiment workspace

    Example: fusmae promote fusmae --version 4 --force --reason "agreed with A. Person: needed for the flood"
    """
    from fusmae.commands.promote import Evidence

    arguments = {"version": version, "evidence": Evidence(shards, index, verdict), "params": options["params"]}
    arguments |= {"reports": reports, "force": force, "reason": reason, "dry_run": dry_run}
    # As dvc.yaml has it.
    arguments |= {"experiment": experiment, "registered": Path("reports/register/version.json")}
    typer.echo(run_command("promote", config=load_params(), name=name, **arguments))


@app.command()
def rollback(
    name: Name,
    to: Annotated[str, typer.Option(help="Number of an earlier champion; by default the one before.")] = "",
    reason: Annotated[str, typer.Option(help="Why; stands in the ledger for good.")] = "",
) -> None:
    """Make the version champion again that was it before.

    Example: fusmae rollback fusmae --reason "maps of the coast are wrong"
    """
    typer.echo(run_command("rollback", name=name, to=to, reason=reason))


@app.command()
def ledger(name: Name) -> None:
    """Show who made which version champion, when and why; fails if somebody changed that.

    Example: fusmae ledger fusmae
    """
    typer.echo(run_command("ledger", name=name))
