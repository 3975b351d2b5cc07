"""The report of an examination: a page for people, JSON for machines."""

import base64
import io
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from fusmae.data.index import SPLITS, Split
from fusmae.data.pixels import MIN_PRESENCE
from fusmae.examination.check import Status, counted
from fusmae.examination.examine import Diagnosis
from fusmae.files import write_json
from fusmae.reports.histograms import band_histogram, value_histogram
from fusmae.reports.page import write_page

# In the order of the page: what must be acted on stands on top.
_STATUSES: tuple[Status, ...] = ("blocks", "warns", "tolerated", "skipped", "passed")
_WORDS: dict[Status, str] = {status: "can’t tell" if status == "skipped" else status for status in _STATUSES}
# More would make the page slow; the JSON has all of them.
_MAX_LEFT_OUT = 200
_SPLIT_COLOURS: dict[Split, str] = {"train": "#4a8fe0", "validation": "#e39b2d", "test": "#d0508e"}
_MAP_TEXT = "#808890"


def write_report(folder: Path, diagnosis: Diagnosis, *, title: str, is_synthetic: bool) -> None:
    """Write `report.html` and `report.json` of the dataset `title`; a synthetic one is named so on top.

    Raises:
        StorageError: the disk is full.
    """
    write_json(folder / "report.json", {"dataset": title, "is_synthetic": is_synthetic, **diagnosis.to_json()})
    statuses = [check.status for check in diagnosis.checks]
    counts = diagnosis.class_counts.values()
    write_page(
        folder / "report.html",
        "examination.html",
        title=f"{title}: report of the examination",
        dataset=title,
        is_synthetic=is_synthetic,
        diagnosis=diagnosis,
        checks=sorted(diagnosis.checks, key=lambda check: _STATUSES.index(check.status)),
        failing=[check.name for check in diagnosis.checks if check.blocks],
        summary=", ".join(f"{statuses.count(status)} {word}" for status, word in _WORDS.items() if status in statuses),
        words=_WORDS,
        colours=_SPLIT_COLOURS,
        most={split: max((of_class[split] for of_class in counts), default=0) or 1 for split in SPLITS},
        positions=_positions_png(diagnosis.positions),
        max_left_out=_MAX_LEFT_OUT,
        band_histogram=band_histogram,
        value_histogram=value_histogram,
        min_presence=MIN_PRESENCE,
        counted=counted,
    )


def _positions_png(positions: Mapping[Split, NDArray[np.float64]]) -> str:
    """Pairs by longitude and latitude, coloured by split, as a data URL; "" where no position is known."""
    everywhere = np.concatenate([positions[split] for split in SPLITS])
    if not len(everywhere):
        return ""
    # A degree of longitude is shorter than one of latitude by the cosine of the latitude.
    shrink = max(float(np.cos(np.radians(everywhere[:, 1].mean()))), 0.1)
    wide, high = np.maximum(np.ptp(everywhere, axis=0), 0.1) * (shrink, 1)
    figure = Figure(figsize=(9, float(np.clip(9 * high / wide, 3, 9))), layout="constrained")
    axis = figure.subplots()
    # Half a million pairs as single pixels, sixty as dots.
    size = float(np.clip(30_000 / len(everywhere), 0.6, 40))
    for split in SPLITS:
        lon, lat = positions[split].T
        axis.scatter(lon, lat, s=size, c=_SPLIT_COLOURS[split], label=split, linewidths=0, alpha=0.85)
    axis.set_aspect(1 / shrink, adjustable="datalim")
    axis.set_xlabel("longitude, degrees", color=_MAP_TEXT)
    axis.set_ylabel("latitude, degrees", color=_MAP_TEXT)
    axis.tick_params(colors=_MAP_TEXT)
    axis.grid(color=_MAP_TEXT, alpha=0.25)
    axis.spines[:].set_color(_MAP_TEXT)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=130, transparent=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
