"""Flow promote: the gate, then the alias."""

from prefect import flow

from flows.change_champion import decide
from flows.events import emit_champion
from flows.notify import tell


@flow(on_failure=[tell], on_crashed=[tell])
def promote(name: str = "fusmae", version: str = "challenger", force: bool = False, reason: str = "") -> None:
    """Judge a version against the champion, and make it champion if the gate lets it pass.

    Args:
        name: registered model.
        version: alias or number of the version that shall become champion.
        force: go on where the gate says no; needs a reason.
        reason: why, and who agreed; stands in the ledger for good.
    """
    decide("promote", name, f"--version={version}", f"--reason={reason}", *(["--force"] if force else []))
    emit_champion(name)


if __name__ == "__main__":
    promote()
