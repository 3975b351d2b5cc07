"""Stage start: bring the weights that a training starts from, if a parameter names some."""

from pathlib import Path

from rich.console import Console

from fusmae.files import write_json, written_whole
from fusmae.release.start import copy_start
from fusmae.training.checkpoint_card import START


def start(reference: str, *, out: Path) -> None:
    """Write the folder `out`: `start.json`, and the checkpoint that the reference means; none if that is empty."""
    with written_whole(out) as partial:
        partial.mkdir()
        facts = copy_start(reference, partial) if reference else {"reference": ""}
        write_json(partial / START, facts)
    if reference:
        Console(stderr=True, highlight=False, markup=False, soft_wrap=True).print(
            f"{reference} is {facts['origin']}, SHA-256 of its weights {facts['sha256'][:12]}"
        )
