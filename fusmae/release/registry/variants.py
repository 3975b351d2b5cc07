"""Reads the variants that are registered with a graph, as the stage `variants` wrote them."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from fusmae.errors import ExportError
from fusmae.files import file_sha256


@dataclass(frozen=True)
class Offer:
    """A graph's variants.

    Attributes:
        graphs: paths of the offered variants' ONNX files, by precision.
        report: path of the JSON with the measurements of all variants.
        table: path of the same report for people, in Markdown.
    """

    graphs: Mapping[str, Path]
    report: Path
    table: Path

    @classmethod
    def read(cls, variants: Path, measured: Path, graph: Path) -> "Offer":
        """Find the offered variants, and check that all belong to one graph.

        Args:
            variants: folder of the offered graphs.
            measured: folder of the report.
            graph: path of the fp32 graph.

        Raises:
            ExportError: variants or report belong to another graph, or a variant is not the file that was measured.
        """
        stated = json.loads((variants / "offered.json").read_text(encoding="utf-8"))
        rows = json.loads((measured / "report.json").read_text(encoding="utf-8"))["variants"]
        graphs = {precision: variants / f"{precision}.onnx" for precision in sorted(stated["offered"])}
        hashes = {name: file_sha256(path) if path.exists() else "no such file" for name, path in graphs.items()}
        offered = {name: row["sha256"] for name, row in rows.items() if row["is_offered"] and name != "fp32"}
        here = {"variant_of": file_sha256(graph), "offered": hashes}
        reported = {"variant_of": rows["fp32"]["sha256"], "offered": offered}
        if not here == stated == reported:
            raise ExportError(
                f"The variants in {variants} are not those that were measured of {graph}.",
                got=f"files {here}",
                expected=f"{stated} by {variants}/offered.json, {reported} by {measured}/report.json",
                hint="dvc repro -f -s variants",
            )
        return cls(graphs, measured / "report.json", measured / "table.md")

    def described(self) -> list[str]:
        """Lines of the card's section on variants."""
        named = ", ".join(f"`{path.name}`" for path in self.graphs.values())
        return [
            f"Offered beside this graph, in the version's folder `extra_files`: {named}."
            if named
            else "None is offered beside this graph: each one is worse or slower.",
            "",
            *self.table.read_text(encoding="utf-8").rstrip().splitlines(),
        ]
