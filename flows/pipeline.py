"""Flow pipeline: every stage of dvc.yaml, one task each. `python -m flows.pipeline` needs no server."""

from prefect import flow

from flows.stage import run_stage, stage_names


@flow
def pipeline() -> None:
    """Run every DVC stage in the order of its graph; fails where a stage fails."""
    for name in stage_names():
        run_stage(name)


if __name__ == "__main__":
    pipeline()
