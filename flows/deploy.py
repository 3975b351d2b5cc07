"""Set up a Prefect server for this project: `python -m flows.deploy`, to be run again after a change.

It makes work pools, runs `prefect deploy --all`, and applies automations, which it finds by their names: crashed flow
runs run again, and events start deployments.
"""

import os
import sys
from collections.abc import Iterator
from datetime import timedelta
from typing import Any
from uuid import UUID

from prefect.automations import (
    AutomationCore,
    ChangeFlowRunState,
    EventTrigger,
    Posture,
    ResourceSpecification,
    RunDeployment,
)
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.client.schemas.objects import StateType
from prefect.exceptions import ObjectNotFound

from flows.events import CHAMPION, DRIFT, RAW_DATA

HEARTBEAT_S = 30
"""Seconds between two heartbeats of a flow run, as in prefect.yaml; the shortest time that Prefect allows."""
_DEAD_AFTER = timedelta(seconds=3 * HEARTBEAT_S)
_ENDED = {
    f"prefect.flow-run.{state}" for state in ("Completed", "Failed", "Cancelled", "Cancelling", "Crashed", "Paused")
}
_OURS = ResourceSpecification({"prefect.resource.id": "prefect.tag.fusmae", "prefect.resource.role": "tag"})
# Without force: Prefect then does not mark a run as crashed that has ended, even if the event of its end arrives late.
_CRASHED = ChangeFlowRunState(name="Crashed", state=StateType.CRASHED, message="no heartbeats")
_RUN_AGAIN = ChangeFlowRunState(
    name="AwaitingRetry", state=StateType.SCHEDULED, message="crashed; it continues from its last checkpoint"
)


def dead_runs() -> AutomationCore:
    """An automation that marks a run without heartbeats as crashed, which frees its slot in the work pool."""
    heartbeat = "prefect.flow-run.heartbeat"
    return AutomationCore(
        name="fusmae: mark runs without heartbeats as crashed",
        description="A flow run whose heartbeats stopped (worker killed, host gone) is marked as crashed.",
        trigger=_of_each_run(
            posture=Posture.Proactive, after={heartbeat}, expect={heartbeat, *_ENDED}, within=_DEAD_AFTER
        ),
        actions=[_CRASHED],
    )


def crashed_runs() -> AutomationCore:
    """An automation that runs a crashed run again, whether it reported the crash itself or its heartbeats stopped."""
    return AutomationCore(
        name="fusmae: run crashed runs again",
        description="A flow run whose process was ended from outside is scheduled again; one that failed is not.",
        trigger=_of_each_run(posture=Posture.Reactive, expect={"prefect.flow-run.Crashed"}),
        actions=[_RUN_AGAIN],
    )


def _of_each_run(**what: Any) -> EventTrigger:
    return EventTrigger(
        match=ResourceSpecification({"prefect.resource.id": "prefect.flow-run.*"}),
        match_related=_OURS,
        for_each={"prefect.resource.id"},
        threshold=1,
        **what,
    )


def on_event(event: str, what: str, deployment: str, deployment_id: UUID, parameters: dict[str, Any]) -> AutomationCore:
    """An automation in which an event of this project starts a deployment with some parameters."""
    return AutomationCore(
        name=f"fusmae: {what}",
        description=f"{event} starts {deployment}.",
        trigger=EventTrigger(posture=Posture.Reactive, expect={event}, threshold=1),
        actions=[RunDeployment(deployment_id=deployment_id, parameters=parameters)],
    )


REACTIONS: tuple[tuple[str, str, str, dict[str, Any]], ...] = (
    (RAW_DATA, "new raw data start the pipeline", "pipeline/pipeline", {}),
    # With the raw data of the last version, the pipeline would only make that version again.
    (DRIFT, "drift starts the pipeline", "pipeline/pipeline", {"only_new_data": True}),
    (CHAMPION, "scenes are compared with a new champion's data", "drift/drift", {}),
)
"""Event, description of the reaction, deployment that it starts, and the deployment's parameters."""


def apply_automations() -> Iterator[str]:
    """Make the automations that the server lacks and update the others; yields one line of text for each."""
    with get_client(sync_client=True) as client:
        reactions = [
            on_event(event, what, name, client.read_deployment_by_name(name).id, parameters)
            for event, what, name, parameters in REACTIONS
        ]
        for wanted in (dead_runs(), crashed_runs(), *reactions):
            known = client.read_automations_by_name(wanted.name)
            for automation in known:
                client.update_automation(automation.id, wanted)
            if not known:
                client.create_automation(wanted)
            yield f"automation {wanted.name!r}: {'updated' if known else 'made'}"


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
