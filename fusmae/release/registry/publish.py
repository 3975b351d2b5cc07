"""Registers a graph as a version with its card, its lineage and further files."""

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fusmae.files import write_json, write_text, written_whole
from fusmae.release.lineage.record import LINEAGE, version_tags
from fusmae.release.registry.card import CardFacts, model_card, short_card
from fusmae.release.registry.versions import CHALLENGER, MAX_DESCRIPTION, register_graph


def publish(
    facts: CardFacts,
    graph: Path,
    out: Path,
    *,
    experiment: str,
    run_file: Path,
    beside_card: Mapping[str, Path],
    kept: Sequence[Path],
) -> None:
    """Register `graph` under the name in the facts' lineage and the alias `challenger`.

    The folder `out` gets the card and what lies beside it (files by their name there), STAC item, lineage and
    `version.json`; all but the last, and the files `kept`, are stored with the version. For the others see
    `register_graph`.

    Raises:
        RegistryError: MLflow refuses.
    """
    with written_whole(out) as partial:
        partial.mkdir()
        for name, path in beside_card.items():
            shutil.copy2(path, partial / name)
        write_text(partial / "card.md", model_card(facts))
        write_json(partial / "mlm.json", registered_item(graph.with_name("mlm.json")))
        write_text(partial / LINEAGE, facts.lineage.model_dump_json(indent=2) + "\n")
    version = register_graph(
        facts.lineage.name,
        graph,
        extra_files=[*sorted(out.iterdir()), *kept],
        tags=version_tags(facts.lineage),
        experiment=experiment,
        run_file=run_file,
        description=short_card(facts, MAX_DESCRIPTION),
    )
    known = {"name": version.name, "version": version.number, "alias": CHALLENGER, "onnx_sha256": version.sha256}
    write_json(out / "version.json", known)


def registered_item(path: Path) -> dict[str, Any]:
    """The STAC item of an exported graph, with a link that fits MLflow: it keeps such files in a folder beside it."""
    item: dict[str, Any] = read_json(path)
    model = item["assets"]["model"]
    model["href"] = f"../{Path(model['href']).name}"
    return item


def read_json(path: Path) -> Any:
    """The content of a JSON file."""
    return json.loads(path.read_text(encoding="utf-8"))
