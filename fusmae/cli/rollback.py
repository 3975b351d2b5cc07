"""`fusmae rollback`: an earlier champion is champion again."""

from typing import Annotated

import typer

from fusmae.cli.call import begin
from fusmae.cli.options import ModelName


def rollback(
    name: ModelName,
    to: Annotated[str, typer.Option(help="Number of an earlier champion; by default the one before.")] = "",
    reason: Annotated[str, typer.Option(help="Why; stands in the ledger for good.")] = "",
) -> None:
    """Make the version champion again that was it before.

    Example: fusmae rollback fusmae --reason "maps of the coast are wrong"
    """
    begin("rollback", looks_up=name)
    from fusmae.release.promotion.rollback import roll_back

    typer.echo(roll_back(name, to=to, reason=reason))
