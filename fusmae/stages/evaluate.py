"""Stage evaluate: score every protocol, initialisation and modality setting over the whole test set."""

from collections import ChainMap
from pathlib import Path
from typing import get_args

import numpy as np
from rich.progress import track

from fusmae.config.data import DataConfig
from fusmae.config.evaluate import EvaluateConfig
from fusmae.config.runtime import RuntimeConfig
from fusmae.data.datamodule import Draws, PairDataModule
from fusmae.evaluation.figures import save_precision_recall
from fusmae.evaluation.metrics import precision_recall, score
from fusmae.evaluation.predictions import Protocol, predict_split
from fusmae.evaluation.report import Basis, ScoreRow, as_markdown, as_metrics, as_report
from fusmae.evaluation.resampling import place_resamples, read_places, score_intervals
from fusmae.files import write_json, write_text
from fusmae.models.architecture import modality_settings
from fusmae.runs.tracking import log_to_run
from fusmae.training.checkpoint import load_checkpoint
from fusmae.training.probe import setting_name


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
    """Score `models/<protocol>/<initialisation>`; write report, metrics, table, PR curves and a picture to `out`."""
    draws = Draws(seed, tuple(tiles.modalities), num_patches=1)
    data = PairDataModule(shards, batch_size=section.batch_size, draws=draws)
    reader = data.reader("test")
    labels, settings, rows, curves = np.asarray(reader.labels), modality_settings(draws.modalities), [], {}
    places = read_places(index, reader.keys)
    weights = place_resamples(places, section.bootstrap_resamples, seed)
    models_found = [(kind, folder) for kind in get_args(Protocol) for folder in sorted((models / kind).iterdir())]
    for protocol, folder in track(models_found, description="models"):
        checkpoint = load_checkpoint(folder)
        for setting in settings:
            found = predict_split(checkpoint, protocol, setting, data, "test", runtime)
            scores = score(labels, found, reader.classes, section.threshold)
            intervals = score_intervals(labels, found, places, weights)
            row = ScoreRow(protocol, folder.name, setting_name(setting), scores, intervals)
            rows.append(row)
            curves[row.name] = precision_recall(labels, found)
            write_json(out / "pr" / f"{row.name.replace('/', '-')}.json", curves[row.name])
    basis = Basis(len(reader), len(set(places)), section.bootstrap_resamples, seed, reader.origin.warning)
    report = as_report(rows, basis)
    write_json(out / "scores.json", report)
    write_json(out / "metrics.json", as_metrics(report))
    write_text(out / "table.md", as_markdown(report))
    every_modality = setting_name(settings[0])
    save_precision_recall(
        out / "pr.png",
        {name: curves[name] for name in curves if name.endswith(f"/{every_modality}")},
        reader.origin.warning,
    )
    for protocol, folder in models_found:
        own = [row.tracked for row in rows if (row.protocol, row.initialisation) == (protocol, folder.name)]
        log_to_run(runs / f"{protocol}-{folder.name}.json", dict(ChainMap(*own)), out)
