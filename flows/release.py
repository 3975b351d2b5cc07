"""Flow release: ONNX and registry."""

from prefect import flow

from flows.stage import run_stages


@flow
def release() -> None:
    """Export to ONNX, check parity and register the challenger."""
    run_stages("export", "register")


if __name__ == "__main__":
    release()
