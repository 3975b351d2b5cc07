"""Stage measure_encoder: score the exported encoder, and its initial weights, by kNN and a probe over the test set."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from fusmae.config.runtime import RuntimeConfig
from fusmae.config.training import EvaluateConfig
from fusmae.data.index import SPLITS
from fusmae.data.shards import ShardReader
from fusmae.evaluation.features import CheckpointEncoder
from fusmae.evaluation.report import ScoreRow, as_markdown
from fusmae.evaluation.scoring import Scoring
from fusmae.files import write_json, write_text
from fusmae.inference.session import EMBEDDING, Session
from fusmae.release.encoder_scores import Embed, frozen_answers
from fusmae.runs.device import device_of
from fusmae.training.checkpoint import load_checkpoint


def measure_encoder(
    section: EvaluateConfig,
    runtime: RuntimeConfig,
    *,
    seed: int,
    exported: Path,
    initial: Path,
    shards: Path,
    index: Path,
    out: Path,
) -> None:
    """Score `exported/model.onnx` and the checkpoint folder `initial`; `out` gets scores and their table.

    Without labels in train or test there is nothing to score, and the table states it.
    """
    readers, session = {split: ShardReader(shards, split) for split in SPLITS}, Session(exported / "model.onnx")
    scoring = Scoring(section, readers["test"], index, seed)
    embeds: dict[str, Embed] = {
        "pretrained": lambda pixels, setting: session.run(pixels, setting, outputs=[EMBEDDING])[EMBEDDING],
        "random": _in_torch(initial, device_of(runtime.accelerator)),
    }
    rows: list[ScoreRow] = []
    for initialisation, embed in embeds.items():
        found, _ = frozen_answers(
            embed, readers, session.settings, neighbours=section.neighbours, max_pairs=section.encoder_pairs
        )
        rows += [
            scoring.row(protocol, initialisation, setting, values) for (protocol, setting), values in found.items()
        ]
    report = scoring.report(rows)
    write_json(out / "scores.json", report)
    write_text(out / "table.md", as_markdown(report))


def _in_torch(folder: Path, device: torch.device) -> Embed:
    """The same for a checkpoint: means of all tokens, as the graph's embedding is."""
    encoder = CheckpointEncoder(load_checkpoint(folder), "mean").to(device)

    def embed(pixels: Mapping[str, NDArray[Any]], setting: Sequence[str]) -> NDArray[np.float32]:
        present = [item.name for item in encoder.preprocess.inputs if item.modality in setting]
        tensors = {name: torch.from_numpy(pixels[name]).to(device) for name in present}
        return encoder.features(tensors, setting).numpy(force=True)

    return embed
