"""Stage export: write a finetuned classifier as ONNX, checked against torch on every test pair."""

from pathlib import Path

from fusmae.config.release import ExportConfig
from fusmae.data.shards import ShardReader
from fusmae.files import write_json, written_whole
from fusmae.inference.session import Session
from fusmae.release.export.graph import Deployable, check_parity, describe_graph, export_onnx, save_onnx
from fusmae.runs.provenance import git_state
from fusmae.training.build import build_preprocess, inputs_of, modality_settings
from fusmae.training.checkpoint import load_checkpoint
from fusmae.training.classifiers import finetuned_classifier


def export(section: ExportConfig, *, tile_m: int, weights: Path, shards: Path, out: Path) -> None:
    """Export the checkpoint folder `weights`; `out` gets the graph, its preprocessing spec and the parity report."""
    checkpoint, reader = load_checkpoint(weights), ShardReader(shards, "test")
    inputs, modalities = inputs_of(checkpoint.preprocessing), tuple(checkpoint.architecture["groups"])
    model = Deployable(build_preprocess(checkpoint.preprocessing), finetuned_classifier(checkpoint), inputs)
    graph = export_onnx(model, inputs, len(modalities), opset=section.opset)
    metadata = describe_graph(checkpoint, tile_m=tile_m, data=reader.origin.described, git=git_state())
    with written_whole(out) as partial:
        partial.mkdir()
        save_onnx(graph, metadata, partial / "model.onnx")
        session = Session(partial / "model.onnx")
        parity = check_parity(
            session,
            model.reference,
            lambda indices: reader.read(indices).pixels,
            len(reader),
            modality_settings(modalities),
            max_abs_error=section.max_abs_error,
        )
        write_json(partial / "parity.json", parity)
        write_json(partial / "preprocessing.json", session.metadata)
