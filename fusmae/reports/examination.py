"""The report of an examination: a page for people, JSON for machines."""

from html import escape
from pathlib import Path

from fusmae.data.index import SPLITS, Split
from fusmae.examination.check import Check, Status, counted
from fusmae.examination.diagnosis import BandSummary, Diagnosis
from fusmae.files import write_json, write_text
from fusmae.reports.examination_charts import SPLIT_COLOURS, histogram_svg, positions_png
from fusmae.reports.layout import page, table

_WORDS: dict[Status, str] = {
    "passed": "passed",
    "tolerated": "tolerated",
    "skipped": "can’t tell",
    "warns": "warns",
    "blocks": "blocks",
}
# More would make the page slow; the JSON has all of them.
_MAX_LEFT_OUT = 200


def write_report(folder: Path, diagnosis: Diagnosis, *, title: str, is_synthetic: bool) -> None:
    """Write `report.html` and `report.json`.

    Args:
        folder: where to.
        diagnosis: what to report.
        title: the dataset's name.
        is_synthetic: say on top that the pixels are made up.

    Raises:
        StorageError: the disk is full.
    """
    write_json(folder / "report.json", {"dataset": title, "is_synthetic": is_synthetic, **diagnosis.to_json()})
    write_text(folder / "report.html", _html(diagnosis, title, is_synthetic=is_synthetic))


def _html(diagnosis: Diagnosis, title: str, *, is_synthetic: bool) -> str:
    sections = [
        _head(diagnosis, title, is_synthetic=is_synthetic),
        "<h2>Checks</h2>",
        _checks(diagnosis.checks),
        "<h2>Pairs and classes by split</h2>",
        _classes(diagnosis),
        "<h2>Bands</h2>",
        _bands(diagnosis.bands),
        "<h2>Where the pairs are</h2>",
        _map(diagnosis),
        "<h2>Left out of the shards</h2>",
        _left_out(diagnosis),
    ]
    return page(f"{title}: report of the examination", "\n".join(sections))


def _head(diagnosis: Diagnosis, title: str, *, is_synthetic: bool) -> str:
    statuses = [check.status for check in diagnosis.checks]
    summary = ", ".join(f"{statuses.count(status)} {word}" for status, word in _WORDS.items() if status in statuses)
    failing = [check.name for check in diagnosis.checks if check.blocks]
    verdict = f"Training is blocked by {', '.join(failing)}." if failing else "Nothing blocks training."
    synthetic = (
        '<p class="synthetic">SYNTHETIC data: made-up pixels, no evidence about the real world.</p>'
        if is_synthetic
        else ""
    )
    return (
        f"<h1>{escape(title)}</h1>"
        f'<p class="quiet">Examination of {counted(sum(diagnosis.num_pairs.values()), "pair")}</p>{synthetic}'
        f'<div class="card verdict {"blocks" if failing else "passed"}"><p><b>{escape(verdict)}</b></p>'
        f'<p class="quiet">{counted(len(diagnosis.checks), "check")}: {escape(summary)}</p></div>'
    )


def _checks(checks: tuple[Check, ...]) -> str:
    numbers = [("number", "findings"), ("number", "tolerated")]
    head = [("", "answer"), ("asked", "check"), ("", "found, and expected"), *numbers]
    # What must be acted on stands on top.
    order: list[Status] = ["blocks", "warns", "tolerated", "skipped", "passed"]
    return table(head, [_check_row(check) for check in sorted(checks, key=lambda check: order.index(check.status))])


def _check_row(check: Check) -> str:
    asked = check.status in ("warns", "blocks", "tolerated")
    examples = f'<span class="quiet">such as <code>{escape(", ".join(check.examples))}</code></span>'
    hint = f'<span class="next">Next: {escape(check.hint)}</span>'
    return (
        f'<tr><td><span class="status {check.status}">{_WORDS[check.status]}</span></td>'
        f'<td><span class="name">{check.name}</span><span class="quiet">{escape(check.what)}</span></td>'
        f'<td>{escape(check.got)}<span class="quiet">expected: {escape(check.expected)}</span>'
        f"{examples if check.examples else ''}{hint if asked and check.hint else ''}</td>"
        f'<td class="number">{check.found:,}</td><td class="number">{check.tolerated:,}</td></tr>'
    )


def _classes(diagnosis: Diagnosis) -> str:
    most = {split: max((counts[split] for counts in diagnosis.class_counts.values()), default=0) for split in SPLITS}
    rows = [
        f"<tr><td>{escape(name)}</td>{''.join(_count(counts[split], most[split], split) for split in SPLITS)}</tr>"
        for name, counts in diagnosis.class_counts.items()
    ]
    totals = "".join(f'<td class="number"><b>{diagnosis.num_pairs[split]:,}</b></td>' for split in SPLITS)
    rows.insert(0, f"<tr><td><b>pairs</b></td>{totals}</tr>")
    note = (
        '<p class="quiet">A pair has as many classes as its labels; bars are relative to the split’s largest class.</p>'
    )
    return note + table([("", "class"), *(("number split", split) for split in SPLITS)], rows)


def _count(count: int, most: int, split: Split) -> str:
    width = 100 * count / max(most, 1)
    bar = f'<span class="bar" style="width:{width:.1f}%;background:{SPLIT_COLOURS[split]}"></span>'
    return f'<td class="number">{count:,}{bar}</td>'


def _bands(bands: tuple[BandSummary, ...]) -> str:
    if not bands:
        return "<p>No shard holds a pair.</p>"
    key = (
        '<p class="key quiet"><span><i class="swatch" style="background:var(--measured)"></i>mean here</span>'
        '<span><i class="swatch" style="background:var(--published)"></i>published mean</span>'
        '<span><i class="swatch" style="background:var(--spread)"></i>published mean ± standard deviation</span>'
        "<span>The darkest 0.1 % and the brightest 1.5 % are not drawn.</span></p>"
    )
    return key + '<div class="bands">' + "".join(_band(summary) for summary in bands) + "</div>"


def _band(summary: BandSummary) -> str:
    totals, published = summary.totals, summary.reference
    digits = ",.1f" if summary.band.units == "dB" else ",.0f"
    here = f"here {totals.mean:{digits}} ± {totals.std:{digits}}"
    reference = f"published {published.mean:{digits}} ± {published.std:{digits}}" if published else "nothing published"
    extent = f"from {totals.lowest:{digits}} to {totals.highest:{digits}} {summary.band.units}"
    return (
        f'<figure class="card"><figcaption><b>{escape(summary.band.name)}</b> {escape(summary.band.modality)}'
        f"</figcaption>{histogram_svg(summary)}<figcaption>{here}<br>{reference}<br>{extent}</figcaption></figure>"
    )


def _map(diagnosis: Diagnosis) -> str:
    url = positions_png(diagnosis.positions)
    if not url:
        return "<p>The source states no positions.</p>"
    key = "".join(
        f'<span><i class="swatch" style="background:{SPLIT_COLOURS[split]}"></i>{split}</span>' for split in SPLITS
    )
    image = f'<img src="{url}" alt="Positions of the pairs by longitude and latitude, coloured by split">'
    return f'<p class="key quiet">{key}</p><div class="card map">{image}</div>'


def _left_out(diagnosis: Diagnosis) -> str:
    if not diagnosis.left_out:
        return "<p>Every pair of the index was taken.</p>"
    rows = [
        f"<tr><td><code>{escape(item.key)}</code></td><td>{item.fault}</td><td>{escape(item.problem)}</td></tr>"
        for item in diagnosis.left_out[:_MAX_LEFT_OUT]
    ]
    more = len(diagnosis.left_out) - len(rows)
    note = f'<p class="quiet">{more:,} more are in report.json.</p>' if more else ""
    return table([("", "pair"), ("", "fault"), ("", "problem")], rows) + note
