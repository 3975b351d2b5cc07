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
from fusmae.evaluation.metrics import precision_recall
from fusmae.evaluation.predictions import Probabilities, finetuned_probabilities, frozen_probabilities
from fusmae.evaluation.report import as_markdown, as_metrics
from fusmae.evaluation.scoring import Scoring
from fusmae.files import write_json, write_text
from fusmae.models.preprocess import Preprocess
from fusmae.runs.device import device_of
from fusmae.runs.tracking import log_to_run
from fusmae.training.checkpoint import load_checkpoint


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
    """Score `models/<stage>/<initialisation>`; write report, metrics, table, PR curves and a picture to `out`."""
    draws = Draws(seed, tuple(tiles.modalities), num_patches=1)
    data = PairDataModule(shards, batch_size=section.batch_size, draws=draws)
    reader, device = data.reader("test"), device_of(runtime.accelerator)
    conditions, scoring = conditions_of(draws.modalities, draws.modalities), Scoring(section, reader, index, seed)
    predicted: dict[str, dict[str, Probabilities]] = {"knn": {}, "probe": {}, "finetune": {}}
    for folder in track(sorted((models / "probe").iterdir()), description="frozen"):
        predicted["knn"][folder.name], predicted["probe"][folder.name] = frozen_probabilities(
            load_checkpoint(folder), data, conditions, device, neighbours=section.neighbours
        )
    for folder in track(sorted((models / "finetune").iterdir()), description="finetuned"):
        checkpoint = load_checkpoint(folder)
        model, preprocess = checkpoint.finetuned_classifier(), Preprocess(checkpoint.preprocessing)
        predicted["finetune"][folder.name] = finetuned_probabilities(model, preprocess, data, conditions, device)
    rows, curves, tracked = [], {}, defaultdict[str, dict[str, float]](dict)
    for protocol, by_weights in predicted.items():
        for initialisation, by_setting in by_weights.items():
            for setting, found in by_setting.items():
                row = scoring.row(protocol, initialisation, setting, found)
                rows.append(row)
                tracked[f"{row.stage}-{row.initialisation}.json"] |= row.tracked
                curves[row.name] = precision_recall(scoring.labels, found)
                write_json(out / "pr" / f"{row.name.replace('/', '-')}.json", curves[row.name])
    report = scoring.report(rows)
    write_json(out / "scores.json", report)
    write_json(out / "metrics.json", as_metrics(report))
    write_text(out / "table.md", as_markdown(report))
    every_modality = {name: found for name, found in curves.items() if name.endswith(f"/{conditions[0].name}")}
    save_precision_recall(out / "pr.png", every_modality, reader.origin.warning)
    for run_file, metrics in tracked.items():
        log_to_run(runs / run_file, metrics, out)
