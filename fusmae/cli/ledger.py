"""`fusmae ledger`: every change of champion."""

import typer

from fusmae.cli.call import begin
from fusmae.cli.options import ModelName


def ledger(name: ModelName) -> None:
    """Show who made which version champion, when and why.

    The command fails if somebody changed the ledger, or moved the alias past it.

    Example: fusmae ledger fusmae
    """
    begin("ledger", looks_up=name)
    from fusmae.release.promotion.checked_ledger import checked_ledger

    typer.echo(checked_ledger(name))
