"""Flow finetune: probe and finetune classifiers."""

from prefect import flow

from flows.notify import tell
from flows.run_stages import run_stages


@flow(on_failure=[tell], on_crashed=[tell])
def finetune(overrides: list[str] | None = None, commit: str = "") -> None:
    """Probe and finetune, from pretrained and from initial weights.

    Args:
        overrides: parameters that differ from params.yaml, such as pretrain.epochs=3 or model=small.
        commit: commit, branch or tag to work at; by default that of the worker's checkout.
    """
    run_stages(["probe", "finetune"], overrides or [], commit)


if __name__ == "__main__":
    finetune()
