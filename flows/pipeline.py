"""Flow pipeline: run every stage of dvc.yaml, as one task per stage. `python -m flows.pipeline` needs no server."""

from prefect import flow

from flows.notify import tell
from flows.run_stages import run_stages


@flow(on_failure=[tell], on_crashed=[tell])
def pipeline(overrides: list[str] | None = None, commit: str = "", only_new_data: bool = False) -> None:
    """Run every DVC stage in the order of the graph; the flow fails if a stage fails.

    Args:
        overrides: parameters that differ from params.yaml, such as pretrain.epochs=3 or model=small.
        commit: commit, branch or tag to work at; by default that of the worker's checkout.
        only_new_data: end after stage fetch, with a message, if the newest model version was made from the same raw
            files.
    """
    run_stages([], overrides or [], commit, only_new_data=only_new_data)


if __name__ == "__main__":
    pipeline()
