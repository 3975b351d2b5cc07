"""Flow rollback: the alias goes back."""

from prefect import flow

from flows.decision import decide


@flow
def rollback(name: str = "fusmae", to: str = "", reason: str = "") -> None:
    """Make an earlier champion champion again.

    Args:
        name: registered model.
        to: number of an earlier champion; by default the one before.
        reason: why; stands in the ledger for good.
    """
    decide("rollback", name, f"--to={to}", f"--reason={reason}")


if __name__ == "__main__":
    rollback()
