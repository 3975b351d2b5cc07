"""Flow rollback: move the alias `champion` back."""

from prefect import flow

from flows.change_champion import decide
from flows.events import emit_champion
from flows.notify import tell


@flow(on_failure=[tell], on_crashed=[tell])
def rollback(name: str = "fusmae", to: str = "", reason: str = "") -> None:
    """Make an earlier champion champion again.

    Args:
        name: registered model.
        to: number of an earlier champion; by default the previous one.
        reason: why; stays in the ledger permanently.
    """
    decide("rollback", name, f"--to={to}", f"--reason={reason}")
    emit_champion(name)


if __name__ == "__main__":
    rollback()
