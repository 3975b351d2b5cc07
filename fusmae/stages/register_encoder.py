"""Stage register_encoder: add the exported encoder to MLflow as a model version, with its card, lineage and weights."""

from pathlib import Path

from fusmae.config.release import RegisterConfig
from fusmae.data.index import read_index
from fusmae.inference.session import Session
from fusmae.release.lineage.record import record_lineage
from fusmae.release.registry.card import CardFacts
from fusmae.release.registry.publish import publish, read_json


def register_encoder(
    section: RegisterConfig,
    *,
    weights: Path,
    exported: Path,
    reference: Path,
    scores: Path,
    report: Path,
    index: Path,
    receipt: Path,
    pictures: Path,
    run_file: Path,
    out: Path,
) -> None:
    """Register `exported/model.onnx` under the alias `challenger`; `out` gets card, lineage and version.

    The checkpoint folder `weights` is stored with it, so that other trainings can start from the version.
    """
    graph, parity, drawn = exported / "model.onnx", exported / "parity.json", sorted(pictures.glob("*.png"))
    metadata = Session(graph).metadata
    facts = CardFacts(
        metadata=metadata,
        scores=read_json(scores),
        parity=read_json(parity),
        report=read_json(report / "report.json"),
        pairs=read_index(index),
        lineage=record_lineage(section.encoder_name, graph, metadata, scores, receipt),
        reconstructions=drawn,
    )
    beside_card = {path.name: path for path in drawn}
    kept = [scores, parity, exported / "preprocessing.json", reference, *sorted(weights.iterdir())]
    publish(facts, graph, out, experiment=section.experiment, run_file=run_file, beside_card=beside_card, kept=kept)
