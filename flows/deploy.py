"""Everything that a Prefect server must know of this project, as code: `python -m flows.deploy`, again after a change.

Work pools, `prefect deploy --all` and automations.
"""

import os
import sys

from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.exceptions import ObjectNotFound

from flows.automations import apply_automations

POOLS: dict[str, int | None] = {"cpu": None, "gpu": 1}
"""Work pools, and how many flow runs each takes at once: one run a GPU host."""


def make_pools() -> None:
    """Make the work pools that the server lacks; those that it has stay as they were set there."""
    with get_client(sync_client=True) as client:
        for name, limit in POOLS.items():
            try:
                client.read_work_pool(name)
            except ObjectNotFound:
                client.create_work_pool(WorkPoolCreate(name=name, type="process", concurrency_limit=limit))


def deploy() -> None:
    """`prefect deploy --all`.

    Raises:
        SystemExit: it failed.
    """
    from prefect.cli import app

    # Each worker has its own: it must not be filled in here.
    os.environ.pop("FUSMAE_WORKSPACE", None)
    sys.argv = ["prefect", "--no-prompt", "deploy", "--all"]
    try:
        app()
    except SystemExit as done:
        if done.code:
            raise


def main() -> None:
    """Make or bring up to date all three."""
    make_pools()
    deploy()
    for line in apply_automations():
        sys.stdout.write(f"{line}\n")


if __name__ == "__main__":
    main()
