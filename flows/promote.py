"""Flow promote: run the gate, then move the alias `champion`."""

from prefect import flow

from flows.change_champion import decide
from flows.events import emit_champion
from flows.notify import tell


@flow(on_failure=[tell], on_crashed=[tell])
def promote(name: str = "fusmae", version: str = "challenger", force: bool = False, reason: str = "") -> None:
    """Judge a version against the champion, and make it champion if it passes the gate.

    Args:
        name: registered model.
        version: alias or number of the version to promote.
        force: promote even if the gate refuses; needs a reason.
        reason: why, and who agreed; stays in the ledger permanently.
    """
    decide("promote", name, f"--version={version}", f"--reason={reason}", *(["--force"] if force else []))
    emit_champion(name)


if __name__ == "__main__":
    promote()
