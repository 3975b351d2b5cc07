"""The drift report: a page for people, JSON for machines."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fusmae.examination.check import counted
from fusmae.files import write_json
from fusmae.inference.drift.distance import Drift, Measure
from fusmae.inference.drift.reference import Reference
from fusmae.inference.drift.tiles import SceneTiles
from fusmae.reports.histograms import Histogram, overlaid_histograms
from fusmae.reports.page import write_page
from fusmae.units import UNITS

_NUM_STRANGEST = 10
_STATED = ("setting", "num_tiles", "num_embedded", "num_drawn", "num_pooled", "false_alarms")


@dataclass(frozen=True)
class Findings:
    """All that a report is written from."""

    drift: Drift  # what the measures say
    unit_faults: str  # what the check of units says, by its own words; "" where nothing
    reference: Reference  # what was compared with
    scene: SceneTiles  # what was compared
    facts: dict[str, Any]  # of the run: model, sources, thresholds
    origin: tuple[float, float]  # left and top of the tiles' grid, in the CRS that `facts` names

    @property
    def is_drift(self) -> bool:
        """The verdict."""
        return bool(self.drift.beyond or self.unit_faults)


def write_drift_report(folder: Path, found: Findings) -> None:
    """Write `drift.json` and `drift.html`.

    Raises:
        StorageError: the disk is full.
    """
    write_json(folder / "drift.json", _to_json(found))
    write_page(
        folder / "drift.html",
        "drift.html",
        title=f"{found.facts['model']}: drift",
        compared=_compared(found),
        warning=found.reference.facts["warning"],
        is_drift=found.is_drift,
        beyond=list(map(_named, found.drift.beyond)),
        unit_faults=found.unit_faults,
        caveats=[text[0].upper() + text[1:] for text in _caveats(found)],
        measures=[
            (_named(item), item, _in_units(found.reference, item))
            for item in sorted(found.drift.measures, key=lambda item: -item.value / item.limit)
        ],
        bands=list(_bands(found)),
        strangest=_strangest(found),
        facts=found.reference.facts | found.facts,
    )


def as_text(found: Findings) -> str:
    """The verdict in a terminal."""
    drift = found.drift
    lines = [f"{'DRIFT' if found.is_drift else 'alike'}: {found.facts['model']}, {_compared(found)}"]
    lines += [f"  {line.strip()}" for line in found.unit_faults.splitlines()]
    lines += [f"  {_named(item)}: {item.value:.2f}, limit {item.limit:.2f}" for item in drift.beyond]
    return "\n".join([*lines, *(f"  {caveat}" for caveat in _caveats(found))])


def _to_json(found: Findings) -> dict[str, Any]:
    drift = found.drift
    return {
        "verdict": "drift" if found.is_drift else "alike",
        "unit_faults": found.unit_faults,
        "measures": [asdict(item) | {"is_beyond": item.is_beyond} for item in drift.measures],
        **{name: getattr(drift, name) for name in _STATED},
        "caveats": list(_caveats(found)),
        "strangest": _strangest(found),
        "reference": found.reference.facts | {"num_validation_scenes": found.reference.num_scenes},
        **found.facts,
    }


def _compared(found: Findings) -> str:
    facts = found.reference.facts
    return (
        f"{counted(found.drift.num_tiles, 'tile')} compared with {facts['num_train_kept']:,} of "
        f"{counted(facts['num_train'], 'training tile')}"
    )


def _caveats(found: Findings) -> Iterator[str]:
    """What the numbers can't tell."""
    drift, facts = found.drift, found.reference.facts
    yield (
        f"limits: draws of {counted(drift.num_drawn, 'tile')} from {found.reference.num_scenes} validation scenes stay "
        f"within them; about {drift.false_alarms:.1%} of scenes like them would be called drift"
    )
    if drift.num_pooled > 1.5:
        yield (
            f"validation's scenes are small: a draw pools {drift.num_pooled:.1f} of them, so one scene of a single "
            "landscape may be called drift for that alone"
        )
    if drift.num_tiles < facts["tiles_per_scene"]:
        yield (f"with {counted(drift.num_tiles, 'tile')} the limits are wide; smaller shifts are not detected")
    if drift.num_embedded < drift.num_tiles:
        others = drift.num_tiles - drift.num_embedded
        rest = f"{counted(others, 'tile')} {'has' if others == 1 else 'have'} others"
        yield f"the embedding is judged by the tiles with {drift.setting}; {rest}"


def _strangest(found: Findings) -> list[dict[str, Any]]:
    """Tiles that are farthest from any training tile, with the corner of each."""
    novelty = np.nan_to_num(found.drift.novelty, nan=-1.0)
    order = np.argsort(-novelty, kind="stable")[: min(_NUM_STRANGEST, found.drift.num_embedded)]
    corners = np.array(found.origin) + found.scene.corners_m[order] * (1, -1)
    rows = zip(novelty[order].tolist(), corners.tolist(), strict=True)
    return [{"novelty": value, "left": left, "top": top} for value, (left, top) in rows]


def _named(item: Measure) -> str:
    return f"{item.modality} {item.name}".strip()


def _in_units(reference: Reference, item: Measure) -> str:
    for band, std in zip(reference.bands, reference.train_std, strict=True):
        if (band.name, band.modality) == (item.name, item.modality):
            return f"{item.limit * float(std):{UNITS[band.units].digits}} {band.units}"
    return ""


def _bands(found: Findings) -> Iterator[tuple[Measure, Histogram]]:
    """The bands' measures, each with its pixels here over those of the training data."""
    for item in found.drift.measures:
        for number, band in enumerate(found.reference.bands):
            if (band.name, band.modality) == (item.name, item.modality):
                here, train = found.scene.quantiles[:, number], found.reference.train_quantiles[number]
                yield item, overlaid_histograms(band.name, band.units, train, here[np.isfinite(here[:, 0])])
