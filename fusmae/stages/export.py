"""Stage export: write a finetuned classifier or a pretrained encoder as ONNX, checked against torch."""

from pathlib import Path

from fusmae.config.release import ExportConfig
from fusmae.data.shards import ShardReader
from fusmae.files import write_json, written_whole
from fusmae.inference.session import Session
from fusmae.release.export.graph import check_parity, deployable, describe_graph, export_onnx, on_every_device
from fusmae.release.export.mlm import mlm_item
from fusmae.release.export.onnx_file import save_onnx
from fusmae.runs.provenance import git_state
from fusmae.training.checkpoint import load_checkpoint


def export(section: ExportConfig, *, tile_m: int, weights: Path, shards: Path, out: Path) -> None:
    """Export the checkpoint folder `weights`; `out` gets the graph, its preprocessing spec, parity and STAC item.

    A checkpoint without a head is exported as an encoder. All test pairs are compared.
    """
    checkpoint, reader = load_checkpoint(weights), ShardReader(shards, "test")
    model = deployable(checkpoint)
    graph = export_onnx(model, opset=section.opset)
    data, git = reader.origin.described, git_state()
    metadata = describe_graph(checkpoint, model, tile_m=tile_m, data=data, git=git)
    with written_whole(out) as partial:
        partial.mkdir()
        save_onnx(graph, metadata, partial / "model.onnx")
        session = Session(partial / "model.onnx")
        parity = on_every_device(
            session,
            lambda opened: check_parity(
                opened, model.reference, reader.read, len(reader), max_abs_error=section.max_abs_error
            ),
        )
        write_json(partial / "parity.json", parity)
        write_json(partial / "mlm.json", mlm_item(partial / "model.onnx", "./model.onnx"))
        write_json(partial / "preprocessing.json", session.metadata)
