"""What the server does by itself, as code: run again what died, and start what an event calls for.

Automations of Prefect; `python -m flows.deploy` brings the server's up to date, by their names.
"""

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
from prefect.client.schemas.objects import StateType

from flows.events import CHAMPION, DRIFT, RAW_DATA

HEARTBEAT_S = 30
"""Between two signs of life of a flow run, as prefect.yaml has it; Prefect's least."""
_DEAD_AFTER = timedelta(seconds=3 * HEARTBEAT_S)
_ENDED = {
    f"prefect.flow-run.{state}" for state in ("Completed", "Failed", "Cancelled", "Cancelling", "Crashed", "Paused")
}
_OURS = ResourceSpecification({"prefect.resource.id": "prefect.tag.fusmae", "prefect.resource.role": "tag"})
# Without force: Prefect marks no run as crashed that has ended, whenever the event of its end arrives.
_CRASHED = ChangeFlowRunState(name="Crashed", state=StateType.CRASHED, message="it gave no sign of life for a while")
_RUN_AGAIN = ChangeFlowRunState(
    name="AwaitingRetry", state=StateType.SCHEDULED, message="it died; it goes on from its last checkpoint"
)


def dead_runs() -> AutomationCore:
    """A run that gives no sign of life is dead, with its worker: it has crashed, and its slot is freed."""
    heartbeat = "prefect.flow-run.heartbeat"
    return AutomationCore(
        name="fusmae: what gives no sign of life has crashed",
        description="A flow run whose heartbeats stopped (worker killed, host gone) is marked as crashed.",
        trigger=_of_each_run(
            posture=Posture.Proactive, after={heartbeat}, expect={heartbeat, *_ENDED}, within=_DEAD_AFTER
        ),
        actions=[_CRASHED],
    )


def crashed_runs() -> AutomationCore:
    """A run that crashed, by its own last word or for want of any, runs again."""
    return AutomationCore(
        name="fusmae: run again what crashed",
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
    """An event of ours starts a deployment, with some parameters."""
    return AutomationCore(
        name=f"fusmae: {what}",
        description=f"{event} starts {deployment}.",
        trigger=EventTrigger(posture=Posture.Reactive, expect={event}, threshold=1),
        actions=[RunDeployment(deployment_id=deployment_id, parameters=parameters)],
    )


REACTIONS: tuple[tuple[str, str, str, dict[str, Any]], ...] = (
    (RAW_DATA, "new raw data start the pipeline", "pipeline/pipeline", {}),
    # On the raw data of the last version it would make the last version.
    (DRIFT, "drift starts the pipeline", "pipeline/pipeline", {"only_new_data": True}),
    (CHAMPION, "scenes are compared with a new champion's data", "drift/drift", {}),
)
"""Event, what it does, deployment that it starts, and the deployment's parameters."""


def apply_automations() -> Iterator[str]:
    """Make the automations that the server lacks and bring the others up to date; a line for each."""
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
            yield f"automation {wanted.name!r}: {'brought up to date' if known else 'made'}"
