"""Stage register: add the exported graph to MLflow as a model version, with its card, lineage and variants."""

import json
import shutil
from pathlib import Path
from typing import Any

from fusmae.config.release import RegisterConfig
from fusmae.data.index import read_index
from fusmae.errors import ExportError
from fusmae.files import file_sha256, write_json, write_text, written_whole
from fusmae.inference.session import Session
from fusmae.release.lineage.record import LINEAGE, record_lineage, version_tags
from fusmae.release.registry.card import CardFacts, model_card, short_card
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


def accepted_variants(variants: Path, measured: Path, graph: Path) -> list[Path]:
    """ONNX files of accepted variants, after a check that files and measurements are of the fp32 graph.

    Raises:
        ExportError: variants or report belong to another graph, or a variant is not the file that was measured.
    """
    stated = _json(variants / "accepted.json")
    rows = _json(measured / "report.json")["variants"]
    paths = {precision: variants / f"{precision}.onnx" for precision in sorted(stated["accepted"])}
    hashes = {name: file_sha256(path) if path.exists() else "no such file" for name, path in paths.items()}
    accepted = {name: row["sha256"] for name, row in rows.items() if row["is_accepted"] and name != "fp32"}
    here = {"variant_of": file_sha256(graph), "accepted": hashes}
    reported = {"variant_of": rows["fp32"]["sha256"], "accepted": accepted}
    if not here == stated == reported:
        raise ExportError(
            f"The variants in {variants} are not those that were measured of {graph}.",
            got=f"files {here}",
            expected=f"{stated} by {variants}/accepted.json, {reported} by {measured}/report.json",
            hint="dvc repro -f -s variants",
        )
    return list(paths.values())


def _json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))
