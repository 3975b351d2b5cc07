"""Notify people of a flow run that failed or crashed, or that found nothing to do."""

from typing import Any, cast

from prefect import get_run_logger
from prefect.blocks.notifications import CustomWebhookNotificationBlock
from prefect.runtime import flow_run as runtime

BLOCK = "fusmae"
"""Name of the Prefect block with the webhook's address and secrets; without this block no notification is sent."""


def tell(flow: Any, flow_run: Any, state: Any) -> None:
    """Report a flow run's state to the webhook of the block `custom-webhook/fusmae`; a hook of Prefect flows."""
    _call(
        f"{flow.name} {flow_run.name} {state.name.lower()}", f"flow run {flow_run.id}: {state.message or 'no message'}"
    )


def send(subject: str, body: str) -> None:
    """Write a message to the log of the current flow run, and send it to the webhook."""
    get_run_logger().warning("%s: %s", subject, body)
    _call(f"{runtime.flow_name} {runtime.name}: {subject}", f"flow run {runtime.id}: {body}")


def _call(subject: str, body: str) -> None:
    try:
        block = cast(Any, CustomWebhookNotificationBlock.load(BLOCK))
    except ValueError:  # no such block
        return
    block.notify(body=body, subject=f"fusmae: {subject}")
