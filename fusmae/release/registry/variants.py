"""Finds the variants that are registered with a graph, as the stage `variants` wrote them."""

import json
from pathlib import Path

from fusmae.errors import ExportError
from fusmae.files import file_sha256


def accepted_variants(variants: Path, measured: Path, graph: Path) -> list[Path]:
    """ONNX files of accepted variants, after a check that files and measurements are of the fp32 graph.

    Raises:
        ExportError: variants or report belong to another graph, or a variant is not the file that was measured.
    """
    stated = json.loads((variants / "accepted.json").read_text(encoding="utf-8"))
    rows = json.loads((measured / "report.json").read_text(encoding="utf-8"))["variants"]
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
