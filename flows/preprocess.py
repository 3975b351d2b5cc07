"""Flow preprocess: raw archives to shards."""

from prefect import flow

from flows.stage import run_stages


@flow
def preprocess() -> None:
    """Fetch the source, index its pairs and pack them into shards."""
    run_stages("fetch", "index", "shard")


if __name__ == "__main__":
    preprocess()
