"""Flow evaluate: score models over the test set."""

from prefect import flow

from flows.notify import tell
from flows.run_stages import run_stages


@flow(on_failure=[tell], on_crashed=[tell])
def evaluate(overrides: list[str] | None = None, commit: str = "") -> None:
    """Score every model over the whole test set.

    Args:
        overrides: parameters that differ from params.yaml, such as pretrain.epochs=3 or model=small.
        commit: commit, branch or tag to work at; by default that of the worker's checkout.
    """
    run_stages(["evaluate"], overrides or [], commit)


if __name__ == "__main__":
    evaluate()
