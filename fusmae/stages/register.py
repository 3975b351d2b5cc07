"""Stage register: add the exported graph to MLflow as a model version, with its card, lineage and variants."""

import json
import shutil
from pathlib import Path
from typing import Any

from fusmae.config.release import RegisterConfig
from fusmae.data.index import read_index
from fusmae.files import write_json, write_text, written_whole
from fusmae.inference.session import Session
from fusmae.release.export.mlm import ITEM, mlm_item
from fusmae.release.lineage.record import LINEAGE, record_lineage, version_tags
from fusmae.release.registry.card import CardFacts, model_card, short_card
from fusmae.release.registry.variants import accepted_variants
from fusmae.release.registry.versions import CHALLENGER, MAX_DESCRIPTION, register_graph


def register(
    section: RegisterConfig,
    *,
    exported: Path,
    variants: Path,
    measured: Path,
    reference: Path,
    scores: Path,
    curves: Path,
    report: Path,
    index: Path,
    receipt: Path,
    pictures: Path,
    run_file: Path,
    out: Path,
) -> None:
    """Register `exported/model.onnx` under the alias `challenger`; `out` gets card, lineage and version."""
    graph, parity, drawn = exported / "model.onnx", exported / "parity.json", sorted(pictures.glob("*.png"))
    session, accepted = Session(graph), accepted_variants(variants, measured, graph)
    lineage = record_lineage(section.model_name, graph, session.metadata, scores, receipt)
    facts = CardFacts(
        metadata=session.metadata,
        scores=_json(scores),
        parity=_json(parity),
        report=_json(report / "report.json"),
        pairs=read_index(index),
        lineage=lineage,
        accepted=accepted,
        variants_table=(measured / "table.md").read_text(encoding="utf-8").rstrip(),
        curves=curves,
        reconstructions=drawn,
    )
    with written_whole(out) as partial:
        partial.mkdir()
        for picture in (curves, *drawn):
            shutil.copy2(picture, partial)
        shutil.copy2(measured / "report.json", partial / "variants.json")
        shutil.copy2(measured / "table.md", partial / "variants.md")
        write_text(partial / "card.md", model_card(facts))
        write_json(partial / ITEM, mlm_item(graph, "../model.onnx"))  # MLflow keeps these files in a folder beside it
        write_text(partial / LINEAGE, lineage.model_dump_json(indent=2) + "\n")
    kept = [scores, parity, exported / "preprocessing.json", reference, *accepted]
    version = register_graph(
        section.model_name,
        graph,
        extra_files=[*sorted(out.iterdir()), *kept],
        tags=version_tags(lineage),
        experiment=section.experiment,
        run_file=run_file,
        description=short_card(facts, MAX_DESCRIPTION),
    )
    known = {"name": version.name, "version": version.number, "alias": CHALLENGER, "onnx_sha256": version.sha256}
    write_json(out / "version.json", known)


def _json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))
