"""Set up a Prefect server for this project: `python -m flows.deploy`, to be run again after a change.

It makes work pools, runs `prefect deploy --all`, and applies automations, which it finds by their names: crashed flow
runs run again, and events start deployments.
"""

import os
import sys
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

from prefect.automations import (
    AutomationCore,
    ChangeFlowRunState,
    EventTrigger,
    Posture,
    ResourceSpecification,
    RunDeployment,
)
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.client.schemas.objects import StateType
from prefect.exceptions import ObjectNotFound

from flows.events import CHAMPION, DRIFT, RAW_DATA

POOLS: dict[str, int | None] = {"cpu": None, "gpu": 1}
"""Work pools, and how many flow runs each takes at once; None for no limit, 1 so that a GPU host has one run."""
REACTIONS: tuple[tuple[str, str, str, dict[str, Any]], ...] = (
    (RAW_DATA, "new raw data start the pipeline", "pipeline/pipeline", {}),
    # With the raw data of the last version, the pipeline would only make that version again.
    (DRIFT, "drift starts the pipeline", "pipeline/pipeline", {"only_new_data": True}),
    (CHAMPION, "scenes are compared with a new champion's data", "drift/drift", {}),
)
"""Event, description of the reaction, deployment that it starts, and the deployment's parameters."""
HEARTBEAT_S = 30
"""Seconds between two heartbeats of a flow run, as in prefect.yaml; the shortest time that Prefect allows."""
_ENDED = {
    f"prefect.flow-run.{state}" for state in ("Completed", "Failed", "Cancelled", "Cancelling", "Crashed", "Paused")
}


def main() -> None:
    """Make or update work pools, deployments and automations."""
    make_pools()
    deploy()
    for line in apply_automations():
        sys.stdout.write(f"{line}\n")


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


def apply_automations() -> Iterator[str]:
    """Make the automations that the server lacks and update the others; yields one line of text for each."""
    with get_client(sync_client=True) as client:
        for wanted in _automations(client):
            known = client.read_automations_by_name(wanted.name)
            for automation in known:
                client.update_automation(automation.id, wanted)
            if not known:
                client.create_automation(wanted)
            yield f"automation {wanted.name!r}: {'updated' if known else 'made'}"


def _automations(client: SyncPrefectClient) -> list[AutomationCore]:
    heartbeat, silence = "prefect.flow-run.heartbeat", timedelta(seconds=3 * HEARTBEAT_S)
    # Without force: Prefect then does not mark a run as crashed that has ended, even if that event arrives late.
    crashed = ChangeFlowRunState(name="Crashed", state=StateType.CRASHED, message="no heartbeats")
    again = ChangeFlowRunState(
        name="AwaitingRetry", state=StateType.SCHEDULED, message="crashed; it continues from its last checkpoint"
    )
    return [
        # A crashed run frees its slot in the work pool.
        _on_runs(
            "mark runs without heartbeats as crashed",
            "A flow run whose heartbeats stopped (worker killed, host gone) is marked as crashed.",
            crashed,
            posture=Posture.Proactive,
            after={heartbeat},
            expect={heartbeat, *_ENDED},
            within=silence,
        ),
        _on_runs(
            "run crashed runs again",
            "A flow run whose process was ended from outside is scheduled again; one that failed is not.",
            again,
            posture=Posture.Reactive,
            expect={"prefect.flow-run.Crashed"},
        ),
        *(
            AutomationCore(
                name=f"fusmae: {what}",
                description=f"{event} starts {name}.",
                trigger=EventTrigger(posture=Posture.Reactive, expect={event}, threshold=1),
                actions=[RunDeployment(deployment_id=client.read_deployment_by_name(name).id, parameters=parameters)],
            )
            for event, what, name, parameters in REACTIONS
        ),
    ]


def _on_runs(name: str, description: str, action: ChangeFlowRunState, **when: Any) -> AutomationCore:
    """An automation for each flow run of this project."""
    runs = ResourceSpecification({"prefect.resource.id": "prefect.flow-run.*"})
    ours = ResourceSpecification({"prefect.resource.id": "prefect.tag.fusmae", "prefect.resource.role": "tag"})
    trigger = EventTrigger(match=runs, match_related=ours, for_each={"prefect.resource.id"}, threshold=1, **when)
    return AutomationCore(name=f"fusmae: {name}", description=description, trigger=trigger, actions=[action])


if __name__ == "__main__":
    main()
