"""Tells people of a flow run that failed or crashed: a hook for Prefect's flows."""

from typing import Any, cast

from prefect.blocks.notifications import CustomWebhookNotificationBlock

BLOCK = "fusmae"
"""Name of the Prefect block with the address and its secrets; without it nobody is told."""


def tell(flow: Any, flow_run: Any, state: Any) -> None:
    """Call the webhook of the block `custom-webhook/fusmae`."""
    try:
        block = cast(Any, CustomWebhookNotificationBlock.load(BLOCK))
    except ValueError:  # no such block
        return
    subject = f"fusmae: {flow.name} {flow_run.name} {state.name.lower()}"
    block.notify(body=f"flow run {flow_run.id}: {state.message or 'no message'}", subject=subject)
