"""Flow release: export to ONNX and register."""

from prefect import flow

from flows.notify import tell
from flows.run_stages import run_stages


@flow(on_failure=[tell], on_crashed=[tell])
def release(overrides: list[str] | None = None, commit: str = "") -> None:
    """Export to ONNX, check parity, describe the training data, make smaller variants and register the challenger.

    Args:
        overrides: parameters that differ from params.yaml, such as pretrain.epochs=3 or model=small.
        commit: commit, branch or tag to work at; by default that of the worker's checkout.
    """
    run_stages(["export", "reference", "variants", "register"], overrides or [], commit)


if __name__ == "__main__":
    release()
