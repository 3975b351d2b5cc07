"""`fusmae doctor`: what is wrong with the stack."""

from typing import Annotated

import typer

from fusmae.cli.call import begin, global_options
from fusmae.cli.options import AsJson
from fusmae.runs.environment import sent_to_proxy


def doctor(
    as_json: AsJson = False,
    strict: Annotated[bool, typer.Option("--strict", help="Let a warning count as an error.")] = False,
) -> None:
    """Check the stack; print the command that mends a fault.

    It looks at versions, git, DVC, MLflow, Prefect, disk, memory and GPU, takes seconds and changes nothing. Exit code
    0: nothing is wrong; 1: something is.

    Example: fusmae doctor
    """
    proxied = sent_to_proxy()  # asked before this process excludes its machine
    begin("doctor")
    from fusmae.doctor.doctor import examine_stack

    is_well, text = examine_stack(params=global_options.params, as_json=as_json, is_strict=strict, proxied=proxied)
    typer.echo(text)
    if not is_well:
        raise typer.Exit(1)
