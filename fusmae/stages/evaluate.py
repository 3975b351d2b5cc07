"""Stage evaluate: score every protocol, initialisation and modality setting over the whole test set."""

from collections import defaultdict
from pathlib import Path

from rich.progress import track

from fusmae.config.data import DataConfig
from fusmae.config.runtime import RuntimeConfig
from fusmae.config.training import EvaluateConfig
from fusmae.data.datamodule import Draws, PairDataModule
from fusmae.evaluation.conditions import conditions_of
from fusmae.evaluation.figures import save_precision_recall
from fusmae.evaluation.label_figures import draw_predictions
from fusmae.evaluation.metrics import precision_recall
from fusmae.evaluation.predictions import Answers, finetuned_answers, frozen_answers
from fusmae.evaluation.report import as_markdown, as_metrics
from fusmae.evaluation.scoring import Scoring
from fusmae.files import write_json, write_text
from fusmae.models.preprocess import Preprocess
from fusmae.runs.device import device_of
from fusmae.runs.tracking import log_to_run
from fusmae.training.checkpoint import load_checkpoint

RANDOM = "random"
"""Name of the folders of models from random weights, of which no figures are drawn."""


def evaluate(
    section: EvaluateConfig,
    tiles: DataConfig,
    runtime: RuntimeConfig,
    *,
    seed: int,
    models: Path,
    shards: Path,
    index: Path,
    out: Path,
    runs: Path,
) -> None:
    """Score `models/<stage>/<initialisation>`; write report, metrics, table, curves and figures to `out`."""
    draws = Draws(seed, tuple(tiles.modalities), num_patches=1)
    data = PairDataModule(shards, batch_size=section.batch_size, draws=draws)
    reader, device = data.reader("test"), device_of(runtime.accelerator)
    conditions, scoring = conditions_of(draws.modalities, draws.modalities), Scoring(section, reader, index, seed)
    answers: dict[str, dict[str, Answers]] = {"knn": {}, "probe": {}, "finetune": {}}
    for folder in track(sorted((models / "probe").iterdir()), description="frozen"):
        answers["knn"][folder.name], answers["probe"][folder.name] = frozen_answers(
            load_checkpoint(folder), data, conditions, device, neighbours=section.neighbours
        )
    figures = out / "figures"
    figures.mkdir(parents=True, exist_ok=True)
    data.with_maps = data.task().is_dense
    for folder in track(sorted((models / "finetune").iterdir()), description="finetuned"):
        checkpoint = load_checkpoint(folder)
        model, preprocess = checkpoint.predictor(), Preprocess(checkpoint.preprocessing)
        found = finetuned_answers(model, preprocess, data, conditions, device)
        answers["finetune"][folder.name] = found
        if folder.name != RANDOM:
            scorer = scoring.scorer("finetune")
            draw_predictions(figures, model, preprocess, data, scorer, found[conditions[0].name])
    rows, curves, tracked = [], {}, defaultdict[str, dict[str, float]](dict)
    (out / "pr").mkdir(exist_ok=True)
    for protocol, by_weights in answers.items():
        for initialisation, by_setting in by_weights.items():
            for setting, of_setting in by_setting.items():
                row = scoring.row(protocol, initialisation, setting, of_setting)
                rows.append(row)
                tracked[f"{row.stage}-{row.initialisation}.json"] |= row.tracked
                if row.scorer.task.kind == "multilabel":
                    curves[row.name] = precision_recall(scoring.labels, of_setting)
                    write_json(out / "pr" / f"{row.name.replace('/', '-')}.json", curves[row.name])
    report = scoring.report(rows)
    write_json(out / "scores.json", report)
    write_json(out / "metrics.json", as_metrics(report))
    write_text(out / "table.md", as_markdown(report))
    if every := {name: points for name, points in curves.items() if name.endswith(f"/{conditions[0].name}")}:
        save_precision_recall(figures / "precision-recall.png", every, reader.origin.warning)
    for run_file, metrics in tracked.items():
        log_to_run(runs / run_file, metrics, out)
