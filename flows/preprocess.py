"""Flow preprocess: turn raw archives into examined shards."""

from prefect import flow

from flows.notify import tell
from flows.run_stages import run_stages


@flow(on_failure=[tell], on_crashed=[tell])
def preprocess(overrides: list[str] | None = None, commit: str = "") -> None:
    """Fetch the source, index its pairs, pack them into shards and examine them.

    Args:
        overrides: parameters that differ from params.yaml, such as pretrain.epochs=3 or model=small.
        commit: commit, branch or tag to work at; by default that of the worker's checkout.
    """
    run_stages(["fetch", "index", "shard", "examine"], overrides or [], commit)


if __name__ == "__main__":
    preprocess()
