"""Stage export: write a finetuned classifier as ONNX, checked against torch on every test pair."""

from pathlib import Path

from fusmae.config.release import ExportConfig
from fusmae.data.shards import ShardReader
from fusmae.files import write_json, written_whole
from fusmae.inference.session import Session
from fusmae.models.architecture import modality_settings
from fusmae.models.preprocess import Preprocess
from fusmae.release.export.devices import on_every_device
from fusmae.release.export.graph import Deployable, check_parity, describe_graph, export_onnx
from fusmae.release.export.mlm import ITEM, mlm_item
from fusmae.release.export.onnx_file import save_onnx
from fusmae.runs.provenance import git_state
from fusmae.training.checkpoint import load_checkpoint


def export(section: ExportConfig, *, tile_m: int, weights: Path, shards: Path, out: Path) -> None:
    """Export the checkpoint folder `weights`; `out` gets the graph, its preprocessing spec, parity and STAC item."""
    checkpoint, reader = load_checkpoint(weights), ShardReader(shards, "test")
    model = Deployable(Preprocess(checkpoint.preprocessing), checkpoint.finetuned_classifier())
    graph = export_onnx(model, opset=section.opset)
    metadata = describe_graph(checkpoint, tile_m=tile_m, data=reader.origin.described, git=git_state())
    with written_whole(out) as partial:
        partial.mkdir()
        save_onnx(graph, metadata, partial / "model.onnx")
        session = Session(partial / "model.onnx")
        parity = on_every_device(
            session,
            lambda graph: check_parity(
                graph,
                model.reference,
                reader.read,
                len(reader),
                modality_settings(tuple(checkpoint.architecture.groups)),
                max_abs_error=section.max_abs_error,
            ),
        )
        write_json(partial / "parity.json", parity)
        write_json(partial / ITEM, mlm_item(partial / "model.onnx", "./model.onnx"))
        write_json(partial / "preprocessing.json", session.metadata)
