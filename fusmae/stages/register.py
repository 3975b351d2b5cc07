"""Stage register: add the exported model to MLflow as a model version, with its card, lineage and variants."""

from pathlib import Path

from fusmae.config.release import RegisterConfig
from fusmae.data.index import read_index
from fusmae.inference.session import Session
from fusmae.release.lineage.record import record_lineage
from fusmae.release.registry.card import PredictorFacts
from fusmae.release.registry.publish import publish, read_json
from fusmae.release.registry.variants import accepted_variants


def register(
    section: RegisterConfig,
    *,
    exported: Path,
    variants: Path,
    measured: Path,
    reference: Path,
    scores: Path,
    figures: Path,
    report: Path,
    index: Path,
    receipt: Path,
    pictures: Path,
    run_file: Path,
    out: Path,
) -> None:
    """Register `exported/model.onnx` under the alias `challenger`; `out` gets card, lineage and version."""
    graph, parity, drawn = exported / "model.onnx", exported / "parity.json", sorted(pictures.glob("*.png"))
    plots = sorted(figures.glob("*.png"))
    session, accepted = Session(graph), accepted_variants(variants, measured, graph)
    facts = PredictorFacts(
        metadata=session.metadata,
        scores=read_json(scores),
        parity=read_json(parity),
        report=read_json(report / "report.json"),
        pairs=read_index(index),
        lineage=record_lineage(section.model_name, graph, session.metadata, scores, receipt),
        accepted=accepted,
        variants_table=(measured / "table.md").read_text(encoding="utf-8").rstrip(),
        figures=plots,
        reconstructions=drawn,
    )
    beside_card = {path.name: path for path in (*plots, *drawn)}
    beside_card |= {"variants.json": measured / "report.json", "variants.md": measured / "table.md"}
    kept = [scores, parity, exported / "preprocessing.json", reference, *accepted]
    publish(facts, graph, out, experiment=section.experiment, run_file=run_file, beside_card=beside_card, kept=kept)
