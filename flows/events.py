"""Prefect events about models and data, to which automations can react.

Flows promote, rollback and drift send theirs. The event for new raw data is sent by the person or program that brings
the data: `prefect event emit fusmae.raw-data.new --resource-id fusmae.source.folder`.
"""

from prefect.events import emit_event

CHAMPION = "fusmae.champion.new"
DRIFT = "fusmae.drift.found"
RAW_DATA = "fusmae.raw-data.new"


def emit_champion(model: str) -> None:
    """Send the event that a model has a new champion."""
    emit_event(CHAMPION, resource={"prefect.resource.id": f"fusmae.model.{model}", "prefect.resource.name": model})


def emit_drift(scene: str, model: str) -> None:
    """Send the event that a scene has drifted from the data that a model was trained on."""
    emit_event(
        DRIFT,
        resource={"prefect.resource.id": f"fusmae.scene.{scene}", "prefect.resource.name": scene},
        related=[{"prefect.resource.id": f"fusmae.model.{model}", "prefect.resource.role": "model"}],
    )
