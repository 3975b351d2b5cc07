"""Stage reference: numbers that describe the exported model's training data, with which new scenes are compared."""

from pathlib import Path

from fusmae.config.release import ReferenceConfig
from fusmae.data.index import read_index
from fusmae.files import file_sha256
from fusmae.inference.drift.reference import save_reference
from fusmae.inference.session import Session
from fusmae.release.drift_reference import make_reference


def reference(section: ReferenceConfig, *, seed: int, exported: Path, shards: Path, index: Path, out: Path) -> None:
    """Describe the data that `exported/model.onnx` was trained on; `out` is a file that accompanies the model."""
    graph = exported / "model.onnx"
    session = Session(graph)
    session.require_embedding(str(graph))
    made = make_reference(session, file_sha256(graph), shards, read_index(index), **section.model_dump(), seed=seed)
    save_reference(made, out)
