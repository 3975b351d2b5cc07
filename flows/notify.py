"""Messages to people by a webhook: a flow run failed or crashed, or found nothing to do.

A message that is not delivered is a warning in the run's log; it does not fail the run.
"""

from collections.abc import Callable
from typing import Any, cast

from prefect import get_run_logger
from prefect.blocks.notifications import CustomWebhookNotificationBlock
from prefect.logging.loggers import flow_run_logger
from prefect.runtime import flow_run as runtime

BLOCK = "fusmae"
"""Name of the Prefect block with the webhook's address and secrets; without this block no message is sent."""


def tell(flow: Any, flow_run: Any, state: Any) -> None:
    """Report a flow run's state to the webhook of the block `custom-webhook/fusmae`; a hook of Prefect flows."""
    body = f"flow run {flow_run.id}: {state.message or 'no message'}"
    _call(f"{flow.name} {flow_run.name} {state.name.lower()}", body, flow_run_logger(flow_run, flow).warning)


def send(subject: str, body: str) -> None:
    """Write a message to the log of the current flow run, and send it to the webhook."""
    warn = get_run_logger().warning
    warn("%s: %s", subject, body)
    _call(f"{runtime.flow_name} {runtime.name}: {subject}", f"flow run {runtime.id}: {body}", warn)


def _call(subject: str, body: str, warn: Callable[..., None]) -> None:
    try:
        try:
            block = cast(Any, CustomWebhookNotificationBlock.load(BLOCK))
        except ValueError:  # no such block
            return
        block.notify(body=body, subject=f"fusmae: {subject}")
    except Exception as error:
        # Without the error's text, which may contain the webhook's address: that is often a secret itself.
        status = getattr(getattr(error, "response", None), "status_code", "")
        reason = f"{type(error).__name__} {status}".rstrip()
        warn("the webhook of the block custom-webhook/%s did not get this message (%s): %s", BLOCK, reason, subject)
