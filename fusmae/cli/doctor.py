"""The command that says what is wrong with the stack."""

from typing import Annotated

import typer

from fusmae.cli.call import options, run_command
from fusmae.runs.environment import sent_to_proxy

app = typer.Typer()


@app.command()
def doctor(
    json: Annotated[bool, typer.Option("--json", help="For machines.")] = False,
    strict: Annotated[bool, typer.Option("--strict", help="Let a warning count as an error.")] = False,
) -> None:
    """Check the stack: versions, git, DVC, MLflow, Prefect, disk, memory, GPU; print the command that mends each.

    It takes seconds and changes nothing. Exit code 0: nothing is wrong; 1: something is.

    Example: fusmae doctor
    """
    proxied = sent_to_proxy()  # asked before this process excludes its machine
    is_well, text = run_command("doctor", params=options["params"], as_json=json, is_strict=strict, proxied=proxied)
    typer.echo(text)
    if not is_well:
        raise typer.Exit(1)
