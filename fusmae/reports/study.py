"""The study's report: one page that needs no network, and tables for machines."""

import base64
import io
from collections.abc import Mapping, Sequence
from pathlib import Path

from PIL import Image

from fusmae.config.study import StudyConfig
from fusmae.config.task import Task
from fusmae.config.training import FinetuneConfig, ModelConfig, PretrainConfig, Readout
from fusmae.data.index import SPLITS
from fusmae.data.shards import ShardReader
from fusmae.errors import StudyError
from fusmae.files import write_json, write_text, written_whole
from fusmae.reports import study_contents as contents
from fusmae.reports.page import write_page
from fusmae.study.comparisons import ANSWERS, Answer, verdict
from fusmae.study.curves import confusions, micro_curves, value_scatters
from fusmae.study.results import PICTURES, Cell, Found, Picture
from fusmae.study.summary import Study, caveats, drawn_places, percent, summarise
from fusmae.study.tables import as_markdown, as_metrics, with_deviation, write_plots

_COLOURS: dict[Answer, str] = {"yes": "passed", "no difference shown": "skipped", "worse": "blocks"}


def write_report(
    cells: Sequence[Found], out: Path, title: str, about: Mapping[str, str], reference: str, focus: str = ""
) -> None:
    """Write `report.html`, `table.md`, `summary.json` and `plots/*.csv` to the folder `out`, all of them or none.

    `about` states what was run, by heading; `reference` is the variant that others are compared with; `focus` states
    what the classes in focus have in common.

    Raises:
        StudyError: cells can't be compared, or a picture can't be read.
        StorageError: the disk is full.
    """
    study = summarise(cells, reference)
    questions, curves = verdict(study, focus), micro_curves(study)
    warnings = list(dict.fromkeys(str(warning) for found in cells if (warning := found.cell.origin.get("warning"))))
    with written_whole(out) as partial:
        partial.mkdir()
        write_page(
            partial / "report.html",
            "study.html",
            title=title,
            study=study,
            contents=contents,
            origins=contents.origins(study),
            warnings=warnings,
            about=about,
            questions=questions,
            answers=ANSWERS,
            colours=_COLOURS,
            caveats=caveats(study.cells),
            curves=curves,
            confusions=confusions(study),
            scatters=value_scatters(study),
            pictures=pictures_by_title(study),
            percent=percent,
            with_deviation=with_deviation,
        )
        write_text(partial / "table.md", as_markdown(study, questions, warnings))
        write_json(partial / "summary.json", as_metrics(study, questions, warnings))
        write_plots(partial / "plots", study, curves)


_READOUTS: dict[Readout, str] = {
    "mean": "the mean of all tokens",
    "cls": "the CLS token",
    "concat": "each sensor's mean over its tokens",
    "spread": "each sensor's mean and deviation over its tokens",
}


def study_about(
    study: StudyConfig,
    model: ModelConfig,
    pretrain: PretrainConfig,
    finetune: FinetuneConfig,
    shards: Path,
    cells: Sequence[Found],
) -> dict[str, str]:
    """Lines by heading: data, model, lengths, seeds, how intervals are made."""
    readers = {split: ShardReader(shards, split, verify=False) for split in SPLITS}
    test = readers["test"]
    sizes = ", ".join(f"{len(reader):,} {split}" for split, reader in readers.items())
    devices = sorted({str(found.cell.origin["device"]) for found in cells})
    in_focus = ""
    if study.focus:
        in_focus = f"{study.focus.about}: {'; '.join(study.focus.classes)}. Their score is the mean of their APs"
    seconds = sum(found.cell.cost["pretrain_seconds"] for found in cells)
    return {
        "Data": f"{test.origin.described.rstrip('.')}. Pairs: {sizes}. {_labels_of(test.task)}.",
        "Model": f"width {model.dim}, {model.depth} blocks, patches of {model.patch_px} px on tiles of "
        f"{max(item.side_px for item in test.inputs)} px, decoders {model.decoder_dim} × {model.decoder_depth}, "
        f"target normalisation {model.target_norm}, mask ratio "
        + ", ".join(f"{name} {ratio:g}" for name, ratio in model.mask_ratio.items()),
        "Pretraining": f"{pretrain.epochs} epochs of all training pairs in batches of {pretrain.batch_size}, without "
        f"labels; {seconds / 60:.0f} minutes for all cells together",
        "Protocols": f"{', '.join(study.protocols)}. kNN and probe read an encoder out as {_READOUTS[study.readout]}, "
        f"finetune as {_READOUTS[finetune.readout]}; a rival as it does itself. kNN: k = {study.neighbours}, "
        f"cosine. Probe: {'ridge' if test.task.value else 'logistic'} regression on standardised frozen features, its "
        "regularisation chosen on the whole validation split. Finetune: "
        f"{study.finetune.steps} steps of {study.finetune.batch_size} pairs at any share of labels. Segment: a head "
        f"for maps of 10 m on the frozen encoder, {study.segment.steps} steps.",
        **({"In focus": in_focus} if in_focus else {}),
        "Labels": f"{', '.join(f'{100 * share:g}%' for share in study.shares)} of train: nested, stratified, without "
        "replacement; another draw for each seed, the same one for every variant",
        "Conditions": "kNN and probe have a head for each set of modalities; finetune and segment have one model for "
        f"all, trained with {finetune.modality_drop:.0%} of batches without one modality. Clouds hide "
        f"{study.clouded_share:.0%} of each s2 tile; heads were trained without clouds.",
        "Seeds": f"{', '.join(map(str, study.seeds))}: weights, order, masks and label subsets",
        "Intervals": f"95 %, from {study.bootstrap_resamples} resamples of {drawn_places(cells)} and of seeds, the "
        "same ones for every row, so that differences are paired. Pairs of one place or one acquisition are drawn "
        "together. With few seeds the intervals come out somewhat narrow.",
        "Machine": "; ".join(devices),
    }


def _labels_of(task: Task) -> str:
    """`19 classes, multi-label classification`."""
    of_what = f"{len(task.classes)} classes, " if task.classes else ""
    return f"{of_what}{task.noun}{', a value per pixel of 10 m' if task.value is not None and task.is_dense else ''}"


_MOST = 12
# Dozens of PNGs would make the page too big to send; as WebP they are a tenth.
_MOST_PX, _QUALITY = 1000, 88
_TITLES = {"reconstruction": "Reconstructions", "failure": "Tiles that the model got wrong"}


Shown = tuple[Picture, Cell, str, int, int]
"""A picture, the cell that made it, its pixels as a URL, its width and height."""


def pictures_by_title(study: Study) -> dict[str, tuple[list[Shown], int]]:
    """Pictures of each kind, the reference's first, and how many more there are.

    Raises:
        StudyError: a picture can't be read.
    """
    by_title = {}
    for kind, title in _TITLES.items():
        listed = [(found, picture) for found in study.cells for picture in found.pictures if picture.kind == kind]
        if listed:
            shown = [(picture, found.cell, *_data_url(found, picture)) for found, picture in listed[:_MOST]]
            by_title[title] = (shown, len(listed) - len(shown))
    return by_title


def _data_url(found: Found, picture: Picture) -> tuple[str, int, int]:
    path, buffer = found.folder / PICTURES / picture.file, io.BytesIO()
    try:
        with Image.open(path) as image:
            shown = image.convert("RGB")
            shown.thumbnail((_MOST_PX, _MOST_PX))
            shown.save(buffer, "webp", quality=_QUALITY)
    except OSError as error:
        raise StudyError(f"{path}: a picture of the study can't be read: {error}", hint="make study") from error
    return "data:image/webp;base64," + base64.b64encode(buffer.getvalue()).decode(), shown.width, shown.height
