"""Flow release: ONNX and registry."""

from prefect import flow

from flows.stage import run_stages


@flow
def release() -> None:
    """Export to ONNX, check parity, describe the training data, make smaller variants and register the challenger."""
    run_stages("export", "reference", "variants", "register")


if __name__ == "__main__":
    release()
