"""Stage export: a finetuned classifier as ONNX, checked against torch on every test pair."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from fusmae.config import Config
from fusmae.data.shards import ShardReader
from fusmae.files import write_json, written_whole
from fusmae.inference.session import PRESENCE, Session
from fusmae.provenance import git_state
from fusmae.release.export import Deployable, export_onnx, save_onnx
from fusmae.release.parity import check_parity
from fusmae.sources import open_source
from fusmae.training.build import build_preprocess, inputs_of, modality_settings
from fusmae.training.checkpoint import load_checkpoint
from fusmae.training.classifiers import finetuned_classifier


def export(config: Config, *, weights: Path, shards: Path, out: Path) -> None:
    """Export the checkpoint folder `weights`; `out` gets the graph, its preprocessing spec and the parity report."""
    checkpoint, source = load_checkpoint(weights), open_source(config.data.source)
    inputs, modalities = inputs_of(checkpoint.preprocessing), tuple(checkpoint.architecture["groups"])
    preprocess, classifier = build_preprocess(checkpoint.preprocessing), finetuned_classifier(checkpoint)
    reader = ShardReader(shards, "test")
    metadata = {
        **checkpoint.preprocessing,
        "modalities": modalities,
        "presence": f"one graph for every setting: input `{PRESENCE}` [B, M] is 1 where a modality is there",
        "tile_m": config.data.tile_m,
        "tile_px": checkpoint.architecture["tile_px"],
        "classes": checkpoint.classes,
        "outputs": {"logits": "[B, K]", "probabilities": "[B, K], sigmoid of logits"},
        "git": git_state(),
        "trained": checkpoint.provenance,
        "data": f"{source.name}: {source.licence}",
    }
    graph = export_onnx(Deployable(preprocess, classifier, inputs), inputs, len(modalities), opset=config.export.opset)
    pixels = reader.read(range(len(reader))).pixels

    @torch.no_grad()
    def reference(batch: Mapping[str, NDArray[Any]], setting: Sequence[str]) -> NDArray[np.float32]:
        present = {name: torch.from_numpy(array) for name, array in batch.items() if name.rsplit("_", 1)[0] in setting}
        logits: NDArray[np.float32] = classifier(preprocess(present)).numpy()
        return logits

    with written_whole(out) as partial:
        partial.mkdir()
        save_onnx(graph, metadata, partial / "model.onnx")
        parity = check_parity(
            Session(partial / "model.onnx"),
            reference,
            pixels,
            modality_settings(modalities),
            max_abs_error=config.export.max_abs_error,
        )
        write_json(partial / "parity.json", parity)
        write_json(partial / "preprocessing.json", metadata)
