"""The variants that go with a graph into the registry, read back as the stage `variants` left them."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from fusmae.errors import ExportError
from fusmae.files import file_sha256


@dataclass(frozen=True)
class Offer:
    """What is known of a graph's variants.

    Attributes:
        graphs: ONNX files of those that are offered, by precision.
        report: JSON of what was measured of all.
        table: the same for people.
    """

    graphs: Mapping[str, Path]
    report: Path
    table: Path

    @classmethod
    def read(cls, variants: Path, measured: Path, graph: Path) -> "Offer":
        """Find what is offered, and that all of it is of one graph.

        Args:
            variants: folder of the offered graphs.
            measured: folder of the report.
            graph: the fp32 graph.

        Raises:
            ExportError: variants or their report are of another graph, or a variant is not the file that was measured.
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
        """A card's section."""
        named = ", ".join(f"`{path.name}`" for path in self.graphs.values())
        return [
            f"Offered beside this graph, in the version's folder `extra_files`: {named}."
            if named
            else "None is offered beside this graph: each one is worse or slower.",
            "",
            *self.table.read_text(encoding="utf-8").rstrip().splitlines(),
        ]
