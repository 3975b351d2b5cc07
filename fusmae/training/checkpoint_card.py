"""The files of a checkpoint folder, and its card `checkpoint.json`, which is read and checked without torch."""

import json
from pathlib import Path
from typing import Any

from fusmae.errors import CheckpointError
from fusmae.files import file_sha256

FORMAT = 1
WEIGHTS = "model.safetensors"
CARD = "checkpoint.json"
HUB_CARD = "config.json"
"""Name of the same file in a folder of the Hugging Face hub (fusmae/release/hub.py)."""
START = "start.json"
"""File that states where weights come from that a training starts from; it lies beside their checkpoint's two files."""


def card_of(weights: Path) -> Path:
    """Path of the card beside a file of weights."""
    card, hub_card = weights.with_name(CARD), weights.with_name(HUB_CARD)
    return hub_card if hub_card.exists() and not card.exists() else card


def read_card(weights: Path, *, hint: str = "") -> dict[str, Any]:
    """The card beside a file of weights, once it is sure that it describes this file.

    `hint` is the advice of every error, in place of those for a checkpoint that the pipeline made.

    Raises:
        CheckpointError: one of the two files is absent or damaged, or the card is of another format or another file.
    """
    card_path = card_of(weights)
    for path in (card_path, weights):
        if not path.exists():
            raise CheckpointError(
                f"There is no checkpoint in {path.parent}: {path.name} is missing.", hint=hint or "dvc repro"
            )
    try:
        card: dict[str, Any] = json.loads(card_path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise CheckpointError(f"{card_path} is damaged: {error}", hint=hint or "dvc checkout --force") from error
    found = card.get("format") if isinstance(card, dict) else type(card).__name__
    if found != FORMAT:
        raise CheckpointError(f"{card_path} is of another format.", got=found, expected=FORMAT, hint=hint)
    got = file_sha256(weights)
    if got != card.get("sha256"):
        raise CheckpointError(
            f"The checksum of {weights} is wrong: it is damaged, or not the one that {card_path.name} describes.",
            got=got,
            expected=card.get("sha256"),
            hint=hint or "dvc checkout --force, or dvc repro --force pretrain",
        )
    return card
