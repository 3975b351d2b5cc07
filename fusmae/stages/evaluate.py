"""Stage evaluate: every protocol, initialisation and modality setting over the whole test set."""

from pathlib import Path

import numpy as np
import torch
from rich.progress import track

from fusmae.config import Config
from fusmae.data.datamodule import Draws, PairDataModule
from fusmae.evaluation.figures import save_precision_recall
from fusmae.evaluation.metrics import precision_recall, score
from fusmae.evaluation.report import Row, as_markdown, as_metrics
from fusmae.files import write_json, write_text
from fusmae.models.heads import Classifier
from fusmae.tracking import log_to_run
from fusmae.training.build import build_preprocess, modality_settings
from fusmae.training.checkpoint import Checkpoint, load_checkpoint
from fusmae.training.classifiers import finetuned_classifier, probed_classifier
from fusmae.training.probe import setting_name
from fusmae.training.supervised import Predictor
from fusmae.training.trainer import Machine, predict

PROTOCOLS = ("probe", "finetune")


def evaluate(config: Config, *, models: Path, shards: Path, out: Path, runs: Path) -> None:
    """Score `models/<protocol>/<initialisation>`; write the table, PR curves and a picture to `out`."""
    draws = Draws(config.seed, tuple(config.data.modalities), num_patches=1)
    data = PairDataModule(shards, batch_size=config.evaluate.batch_size, draws=draws)
    reader, machine = data.reader("test"), Machine(**config.runtime.machine)
    labels, rows, curves = np.asarray(reader.labels), [], {}
    settings = modality_settings(draws.modalities)
    folders = [(protocol, folder) for protocol in PROTOCOLS for folder in sorted((models / protocol).iterdir())]
    for protocol, folder in track(folders, description="models"):
        checkpoint = load_checkpoint(folder)
        for setting in settings:
            model = _classifier(protocol, checkpoint, setting_name(setting))
            predictor = Predictor(model, build_preprocess(checkpoint.preprocessing), setting)
            logits = torch.cat(predict(machine, predictor, data.loader("test")))
            probabilities = torch.sigmoid(logits).numpy()
            scores = score(
                labels,
                probabilities,
                reader.classes,
                threshold=config.evaluate.threshold,
                resamples=config.evaluate.bootstrap_resamples,
                seed=config.seed,
            )
            row = Row(protocol, folder.name, setting_name(setting), scores)
            rows.append(row)
            curves[row.name] = precision_recall(labels, probabilities)
            write_json(out / "pr" / f"{row.name.replace('/', '-')}.json", curves[row.name])
    metrics = as_metrics(rows, len(reader), config.seed)
    write_json(out / "metrics.json", metrics)
    write_text(out / "table.md", as_markdown(metrics))
    every_modality = setting_name(settings[0])
    shown = {name: curve for name, curve in curves.items() if name.split("/")[-1] == every_modality}
    save_precision_recall(out / "pr.png", shown)
    for protocol, folder in folders:
        own = {row.setting: row.scores for row in rows if (row.protocol, row.initialisation) == (protocol, folder.name)}
        # MLflow admits no plus sign in a name.
        values = {
            f"test/{key.replace('+', '-')}/{name}": getattr(own[key], name)
            for key in own
            for name in ("micro_ap", "macro_ap")
        }
        log_to_run(runs / f"{protocol}-{folder.name}.json", values, out)


def _classifier(protocol: str, checkpoint: Checkpoint, setting: str) -> Classifier:
    return finetuned_classifier(checkpoint) if protocol == "finetune" else probed_classifier(checkpoint, setting)
