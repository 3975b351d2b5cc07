"""Flow pretrain: masked reconstruction."""

from prefect import flow

from flows.notify import tell
from flows.run_stages import run_stages


@flow(on_failure=[tell], on_crashed=[tell])
def pretrain(overrides: list[str] | None = None, commit: str = "") -> None:
    """Pretrain the encoder by masked reconstruction.

    Args:
        overrides: parameters that differ from params.yaml, such as pretrain.epochs=3 or model=small.
        commit: commit, branch or tag to work at; by default that of the worker's checkout.
    """
    run_stages(["pretrain"], overrides or [], commit)


if __name__ == "__main__":
    pretrain()
