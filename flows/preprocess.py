"""Flow preprocess: raw archives to examined shards."""

from prefect import flow

from flows.stage import run_stages


@flow
def preprocess() -> None:
    """Fetch the source, index its pairs, pack them into shards and examine them."""
    run_stages("fetch", "index", "shard", "doctor")


if __name__ == "__main__":
    preprocess()
