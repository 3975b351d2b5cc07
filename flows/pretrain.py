"""Flow pretrain: masked reconstruction."""

from prefect import flow

from flows.stage import run_stages


@flow
def pretrain() -> None:
    """Pretrain the encoder by masked reconstruction."""
    run_stages("pretrain")


if __name__ == "__main__":
    pretrain()
