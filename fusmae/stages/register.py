"""Stage register: the exported graph as a version in MLflow, with card, parity report and preprocessing spec."""

import json
from pathlib import Path

from fusmae.config import Config
from fusmae.evaluation.report import as_markdown
from fusmae.files import write_json, write_text
from fusmae.inference.session import Session
from fusmae.release.card import model_card
from fusmae.release.registry import CHALLENGER, register_graph


def register(config: Config, *, exported: Path, metrics: Path, run_file: Path, out: Path) -> None:
    """Register `exported/model.onnx` under the alias `challenger`; `out` gets the card and the version."""
    session, name = Session(exported / "model.onnx"), config.register_as.model_name
    metadata, parity = session.metadata, json.loads((exported / "parity.json").read_text(encoding="utf-8"))
    table = as_markdown(json.loads(metrics.read_text(encoding="utf-8")))
    write_text(out / "card.md", model_card(name, metadata, table, parity, metadata["trained"]))
    git = metadata["git"]
    version = register_graph(
        name,
        exported / "model.onnx",
        inputs=session.inputs,
        num_modalities=len(metadata["modalities"]),
        num_classes=len(metadata["classes"]),
        extra_files=[out / "card.md", exported / "parity.json", exported / "preprocessing.json"],
        tags={"fusmae.git_commit": str(git["commit"]), "fusmae.git_is_dirty": str(git["is_dirty"]).lower()},
        experiment=config.register_as.experiment,
        run_file=run_file,
    )
    facts = {"name": version.name, "version": version.number, "alias": CHALLENGER, "onnx_sha256": version.sha256}
    write_json(out / "version.json", facts)
