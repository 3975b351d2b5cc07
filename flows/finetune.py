"""Flow finetune: probes and classifiers."""

from prefect import flow

from flows.stage import run_stages


@flow
def finetune() -> None:
    """Probe and finetune, from pretrained and from initial weights."""
    run_stages("probe", "finetune")


if __name__ == "__main__":
    finetune()
