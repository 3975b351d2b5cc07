"""The study's report: one page that needs no network, and tables for machines."""

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

from fusmae.files import write_json, write_text, written_whole
from fusmae.reports import study_charts as charts
from fusmae.reports.layout import page
from fusmae.reports.study_classes import classes_section
from fusmae.reports.study_css import STYLE
from fusmae.reports.study_evidence import evidence_section, origin_section
from fusmae.reports.study_javascript import SCRIPT
from fusmae.reports.study_pictures import picture_section
from fusmae.reports.study_scores import compare_section, conditions_section, scores_section, verdict_section
from fusmae.study.comparable import caveats
from fusmae.study.comparisons import Question, verdict
from fusmae.study.curves import MicroCurve, confusions, micro_curves
from fusmae.study.results import Found
from fusmae.study.summary import Study, summarise
from fusmae.study.tables import as_markdown, as_metrics, write_plots

# A browser that obeys it asks nobody for anything, whatever a name in the data holds.
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'unsafe-inline'"


def write_report(
    cells: Sequence[Found], out: Path, title: str, about: Mapping[str, str], reference: str, focus: str = ""
) -> None:
    """Write `report.html`, `table.md`, `summary.json` and `plots/*.csv`, all of them or none.

    Args:
        cells: of the study, read back.
        out: folder to write; what stands there is replaced.
        title: of the page.
        about: what was run, line by line: data set, pairs, sizes, machine.
        reference: name of the variant that others are compared with.
        focus: what the classes in focus have in common; "" where none are.

    Raises:
        StudyError: cells can't be compared, or a picture can't be read.
        StorageError: the disk is full.
    """
    study = summarise(cells, reference)
    questions, curves = verdict(study, focus), micro_curves(study)
    warnings = list(dict.fromkeys(str(warning) for found in cells if (warning := found.cell.origin.get("warning"))))
    with written_whole(out) as partial:
        partial.mkdir()
        write_text(partial / "report.html", _html(study, questions, curves, title, about, warnings))
        write_text(partial / "table.md", as_markdown(study, questions, warnings))
        write_json(partial / "summary.json", as_metrics(study, questions, warnings))
        write_plots(partial / "plots", study, curves)


def _html(
    study: Study,
    questions: Sequence[Question],
    curves: Sequence[MicroCurve],
    title: str,
    about: Mapping[str, str],
    warnings: Sequence[str],
) -> str:
    sections = {
        "Verdict": verdict_section(study, questions) + _caveats(study) + _about(about),
        "Scores": scores_section(study),
        "Missing modality": conditions_section(study),
        "Compare": compare_section(study),
        "Curves": _curves(study),
        "Classes": classes_section(study, curves, confusions(study)),
        "Without labels": evidence_section(study),
        "Pictures": picture_section(study),
        "Origin": origin_section(study),
    }
    anchors = {name: name.lower().replace(" ", "-") for name in sections}
    links = "".join(f'<a href="#{anchors[name]}">{name}</a>' for name in sections)
    banners = "".join(f'<p class="synthetic">{escape(warning)}</p>' for warning in warnings)
    cells = f"{len(study.variants)} variants, {len(study.cells)} cells"
    head = f'<h1>{escape(title)}</h1><p class="quiet">{cells}; the reference is {escape(study.reference)}</p>{banners}'
    body = "".join(
        f'<section><h2 id="{anchors[name]}">{name}</h2>{content}</section>' for name, content in sections.items()
    )
    return page(
        title,
        f'{head}<nav aria-label="Contents">{links}</nav>{body}<script>{SCRIPT}</script>',
        head=f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}"><style>{STYLE}</style>',
    )


def _caveats(study: Study) -> str:
    found = caveats(study.cells)
    items = "".join(f"<li>{escape(sentence)}</li>" for sentence in found)
    return f'<h3>Read with care</h3><ul class="caveats">{items}</ul>' if found else ""


def _about(about: Mapping[str, str]) -> str:
    lines = "".join(f"<dt>{escape(name)}</dt><dd>{escape(value)}</dd>" for name, value in about.items())
    return f'<h3>What was run</h3><dl class="card">{lines}</dl>' if about else ""


def _curves(study: Study) -> str:
    return (
        f"<h3>Label efficiency</h3>{charts.key(study)}"
        '<p class="quiet">The band is the 95 % interval.</p>'
        f"{charts.label_efficiency(study)}<h3>Training</h3>{charts.key(study)}"
        f'<p class="quiet">A line a seed.</p>{charts.training(study)}'
    )
