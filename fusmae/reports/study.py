"""The study's report: one page that needs no network, and tables for machines."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from fusmae.files import write_json, write_text, written_whole
from fusmae.reports import study_charts as charts
from fusmae.reports import study_tables as tables
from fusmae.reports.page import render
from fusmae.reports.study_pictures import pictures_by_title
from fusmae.study.comparable import caveats
from fusmae.study.comparisons import ANSWERS, Answer, Question, verdict
from fusmae.study.curves import MicroCurve, confusions, micro_curves
from fusmae.study.results import Found
from fusmae.study.summary import Study, percent, score_name, summarise
from fusmae.study.tables import as_markdown, as_metrics, with_deviation, write_plots

_COLOURS: dict[Answer, str] = {"yes": "passed", "no difference shown": "skipped", "worse": "blocks"}


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
    shares = [sorted({share for _, share in question.answers}) for question in questions]
    return render(
        "study.html",
        title=title,
        study=study,
        warnings=warnings,
        about=about,
        every_modality=study.every_modality,
        # The verdict: each question, and the names of its shares.
        questions=[
            (question, {share: f"{percent(share)} of labels" for share in of_question})
            for question, of_question in zip(questions, shares, strict=True)
        ],
        answers=ANSWERS,
        num_answers=sum(len(question.answers) for question in questions),
        colours=_COLOURS,
        caveats=caveats(study.cells),
        # Scores
        score_columns=tables.score_columns(study),
        costs=tables.costs,
        score_names={name: score_name(name) for line in study.lines for name in line.scores},
        conditions=list(tables.conditions(study)),
        chosen_rows=tables.chosen_rows(study),
        embedded_rows=tables.embedded_rows(study.lines),
        # Curves
        glyphs=charts.GLYPHS,
        label_efficiency=charts.label_efficiency(study),
        training=charts.training(study),
        precision_recall=charts.precision_recall(study, curves),
        # Classes
        absent_classes=tables.absent_classes(study),
        per_class=list(tables.per_class(study)),
        origins_by_variant={variant: tables.origins(study, variant) for variant in study.variants},
        confusions=confusions(study),
        confusion_rows=tables.confusion_rows,
        # Without labels
        errors=("model", *tables.FILLS),
        reconstructions=list(tables.reconstructions(study)),
        retrieved=tables.RETRIEVED,
        retrievals=list(tables.retrievals(study)),
        pictures=pictures_by_title(study),
        # How things are named
        anchor=tables.anchor,
        columns=tables.columns,
        listed=tables.listed,
        origins=tables.origins,
        percent=percent,
        signed=tables.signed,
        use_title=tables.use_title,
        with_deviation=with_deviation,
    )
