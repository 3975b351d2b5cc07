"""What happens to models and data that others may act on, as Prefect events.

Flow promote and flow drift send theirs; new raw data by a person or program that brings them:
`prefect event emit fusmae.raw-data.new --resource-id fusmae.source.folder`.
"""

from prefect.events import emit_event

CHAMPION = "fusmae.champion.new"
DRIFT = "fusmae.drift.found"
RAW_DATA = "fusmae.raw-data.new"


def emit_champion(model: str) -> None:
    """A model has a new champion."""
    emit_event(CHAMPION, resource={"prefect.resource.id": f"fusmae.model.{model}", "prefect.resource.name": model})


def emit_drift(scene: str, model: str) -> None:
    """A scene is unlike the data that a model was trained on."""
    emit_event(
        DRIFT,
        resource={"prefect.resource.id": f"fusmae.scene.{scene}", "prefect.resource.name": scene},
        related=[{"prefect.resource.id": f"fusmae.model.{model}", "prefect.resource.role": "model"}],
    )
