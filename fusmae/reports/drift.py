"""The drift report: a page for people, JSON for machines."""

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from fusmae.examination.check import counted
from fusmae.files import write_json, write_text
from fusmae.inference.drift.distance import Drift, Measure
from fusmae.inference.drift.reference import Reference
from fusmae.inference.drift.tiles import SceneTiles
from fusmae.reports.drift_charts import overlay_svg
from fusmae.reports.layout import page, table

_NUM_STRANGEST = 10


@dataclass(frozen=True)
class Findings:
    """All that a report is written from.

    Attributes:
        drift: what the measures say.
        unit_faults: what the check of units says, by its own words; "" where nothing.
        reference: what was compared with.
        scene: what was compared.
        facts: of the run: model, sources, thresholds.
        origin: left and top of the tiles' grid, in the CRS that `facts` names.
    """

    drift: Drift
    unit_faults: str
    reference: Reference
    scene: SceneTiles
    facts: dict[str, Any]
    origin: tuple[float, float]

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
    write_text(folder / "drift.html", _html(found))


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
        "setting": drift.setting,
        "num_tiles": drift.num_tiles,
        "num_embedded": drift.num_embedded,
        "num_drawn": drift.num_drawn,
        "num_pooled": drift.num_pooled,
        "false_alarms": drift.false_alarms,
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
        f"limits: what draws of {counted(drift.num_drawn, 'tile')} from {found.reference.num_scenes} validation scenes "
        f"stay within; about {drift.false_alarms:.1%} of scenes like them would be called drift"
    )
    if drift.num_pooled > 1.5:
        yield (
            f"validation's scenes are small: a draw pools {drift.num_pooled:.1f} of them, so one scene of a single "
            "landscape may be called drift for that alone"
        )
    if drift.num_tiles < facts["tiles_per_scene"]:
        yield (
            f"with {counted(drift.num_tiles, 'tile')} only what lies beyond these wide limits is seen; smaller shifts "
            "may be there all the same"
        )
    if drift.num_embedded < drift.num_tiles:
        others = drift.num_tiles - drift.num_embedded
        told = f"{counted(others, 'tile')} {'has' if others == 1 else 'have'} others"
        yield f"the embedding is judged by the tiles with {drift.setting}; {told}"


def _strangest(found: Findings) -> list[dict[str, Any]]:
    """Tiles that are farthest from any training tile, with the corner of each."""
    novelty = np.nan_to_num(found.drift.novelty, nan=-1.0)
    order = np.argsort(-novelty, kind="stable")[: min(_NUM_STRANGEST, found.drift.num_embedded)]
    left, top = found.origin
    return [
        {
            "novelty": float(novelty[row]),
            "left": left + int(found.scene.corners_m[row, 0]),
            "top": top - int(found.scene.corners_m[row, 1]),
        }
        for row in order
    ]


def _named(item: Measure) -> str:
    return f"{item.modality} {item.name}".strip()


def _html(found: Findings) -> str:
    title = f"{found.facts['model']}: drift"
    warning = found.reference.facts["warning"]
    sections = [
        f"<h1>{escape(title)}</h1>",
        f'<p class="quiet">{escape(_compared(found))}</p>',
        f'<p class="synthetic">{escape(warning)}</p>' if warning else "",
        _verdict(found),
        "<h2>Distances from the training data</h2>",
        '<p class="quiet">Bands: Wasserstein distance in training standard deviations; a shift of every pixel by one '
        "deviation is 1. Embedding mixture: energy distance, in units of the distance between two training tiles. "
        "Embedding novelty: distance to the nearest training tiles; 1 is a training tile’s own.</p>",
        table(
            [
                ("", "answer"),
                ("", "measure"),
                *(("number", name) for name in ("here", "usual", "limit", "limit in units")),
            ],
            [_row(found, item) for item in _ordered(found.drift.measures)],
        ),
        "<h2>Bands</h2>",
        _bands(found),
        "<h2>Tiles that are least like any training tile</h2>",
        table([("number", name) for name in ("novelty", "left", "top")], [_tile(tile) for tile in _strangest(found)]),
        "<h2>What it rests on</h2>",
        table(
            [("asked", "fact"), ("", "value")], [_fact(*item) for item in (found.reference.facts | found.facts).items()]
        ),
    ]
    return page(title, "\n".join(section for section in sections if section))


def _verdict(found: Findings) -> str:
    names = ", ".join(_named(item) for item in found.drift.beyond)
    verdict = "These scenes are unlike the training data" if found.is_drift else "Nothing lies beyond its limit."
    verdict += (f": {names}." if names else ".") if found.is_drift else ""
    faults = f'<pre style="white-space:pre-wrap">{escape(found.unit_faults)}</pre>' if found.unit_faults else ""
    caveats = "".join(f'<p class="quiet">{escape(text[0].upper() + text[1:])}.</p>' for text in _caveats(found))
    colour = "blocks" if found.is_drift else "passed"
    return f'<div class="card verdict {colour}"><p><b>{escape(verdict)}</b></p>{faults}{caveats}</div>'


def _ordered(measures: Sequence[Measure]) -> list[Measure]:
    return sorted(measures, key=lambda item: -item.value / item.limit)


def _row(found: Findings, item: Measure) -> str:
    colour, word = ("blocks", "drift") if item.is_beyond else ("passed", "alike")
    numbers = "".join(f'<td class="number">{value:.2f}</td>' for value in (item.value, item.usual, item.limit))
    return (
        f'<tr><td><span class="status {colour}">{word}</span></td>'
        f'<td><span class="name">{escape(_named(item))}</span></td>'
        f'{numbers}<td class="number">{_in_units(found.reference, item)}</td></tr>'
    )


def _in_units(reference: Reference, item: Measure) -> str:
    for band, std in zip(reference.bands, reference.train_std, strict=True):
        if (band.name, band.modality) == (item.name, item.modality):
            return f"{item.limit * float(std):{',.1f' if band.units == 'dB' else ',.0f'}} {band.units}"
    return ""


def _bands(found: Findings) -> str:
    key = (
        '<p class="key quiet"><span><i class="swatch" style="background:var(--bars)"></i>training</span>'
        '<span><i class="swatch" style="background:var(--measured)"></i>here</span>'
        "<span>Lines are means; each histogram has its own height. "
        "The darkest 0.2 % and the brightest 1.5 % are not drawn.</span></p>"
    )
    figures = []
    for item in found.drift.measures:
        for number, band in enumerate(found.reference.bands):
            if (band.name, band.modality) == (item.name, item.modality):
                here = found.scene.quantiles[:, number]
                svg = overlay_svg(
                    band.name, band.units, found.reference.train_quantiles[number], here[np.isfinite(here[:, 0])]
                )
                figures.append(
                    f'<figure class="card"><figcaption><b>{escape(band.name)}</b> {escape(band.modality)}</figcaption>'
                    f"{svg}<figcaption>distance {item.value:.2f}, limit {item.limit:.2f}</figcaption></figure>"
                )
    return f'{key}<div class="bands">{"".join(figures)}</div>'


def _tile(tile: dict[str, Any]) -> str:
    cells = (f"{tile['novelty']:.2f}", f"{tile['left']:,.0f}", f"{tile['top']:,.0f}")
    return "<tr>" + "".join(f'<td class="number">{cell}</td>' for cell in cells) + "</tr>"


def _fact(name: str, value: object) -> str:
    return f"<tr><td>{escape(name)}</td><td><code>{escape(str(value))}</code></td></tr>"
