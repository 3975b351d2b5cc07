"""Tells people of a flow run that failed or crashed, or that found nothing to do."""

from typing import Any, cast

from prefect import get_run_logger
from prefect.blocks.notifications import CustomWebhookNotificationBlock
from prefect.runtime import flow_run as runtime

BLOCK = "fusmae"
"""Name of the Prefect block with the address and its secrets; without it nobody is told."""


def tell(flow: Any, flow_run: Any, state: Any) -> None:
    """Call the webhook of the block `custom-webhook/fusmae`."""
    _call(
        f"{flow.name} {flow_run.name} {state.name.lower()}", f"flow run {flow_run.id}: {state.message or 'no message'}"
    )


def send(subject: str, body: str) -> None:
    """Say something in the log of the flow run that is in progress, and call the webhook."""
    get_run_logger().warning("%s: %s", subject, body)
    _call(f"{runtime.flow_name} {runtime.name}: {subject}", f"flow run {runtime.id}: {body}")


def _call(subject: str, body: str) -> None:
    try:
        block = cast(Any, CustomWebhookNotificationBlock.load(BLOCK))
    except ValueError:  # no such block
        return
    block.notify(body=body, subject=f"fusmae: {subject}")
