"""Set up a Prefect server for this project: `python -m flows.deploy`, to be run again after a change.

It makes work pools, runs `prefect deploy --all`, and applies automations.
"""

import os
import sys

from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.exceptions import ObjectNotFound

from flows.automations import apply_automations

POOLS: dict[str, int | None] = {"cpu": None, "gpu": 1}
"""Work pools, and how many flow runs each takes at once; None for no limit, 1 so that a GPU host has one run."""


def make_pools() -> None:
    """Make the work pools that the server lacks; existing ones keep their settings on the server."""
    with get_client(sync_client=True) as client:
        for name, limit in POOLS.items():
            try:
                client.read_work_pool(name)
            except ObjectNotFound:
                client.create_work_pool(WorkPoolCreate(name=name, type="process", concurrency_limit=limit))


def deploy() -> None:
    """Run `prefect deploy --all`.

    Raises:
        SystemExit: the command failed.
    """
    from prefect.cli import app

    # Each worker has its own value, so this machine's value must not be filled in here.
    os.environ.pop("FUSMAE_WORKSPACE", None)
    sys.argv = ["prefect", "--no-prompt", "deploy", "--all"]
    try:
        app()
    except SystemExit as done:
        if done.code:
            raise


def main() -> None:
    """Make or update work pools, deployments and automations."""
    make_pools()
    deploy()
    for line in apply_automations():
        sys.stdout.write(f"{line}\n")


if __name__ == "__main__":
    main()
