"""Flow evaluate: scores over the test set."""

from prefect import flow

from flows.stage import run_stages


@flow
def evaluate() -> None:
    """Score every model over the whole test set."""
    run_stages("evaluate")


if __name__ == "__main__":
    evaluate()
