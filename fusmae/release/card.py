"""The model card: tracked facts about one exported model, as Markdown."""

from collections.abc import Mapping
from typing import Any


def model_card(
    name: str, metadata: Mapping[str, Any], table: str, parity: Mapping[str, Any], provenance: Mapping[str, Any]
) -> str:
    """Write the card.

    Args:
        name: registered model's name.
        metadata: the graph's own metadata.
        table: the metrics table in Markdown.
        parity: the parity report.
        provenance: commit, inputs, seed and versions of the checkpoint behind the graph.
    """
    worst = max(check["max_abs_error"] for check in parity["checks"])
    git = provenance["git"]
    return "\n".join(
        [
            f"# {name}",
            "",
            "Multi-label land cover from co-registered Sentinel-1 and Sentinel-2 tiles: a Fus-MAE encoder, finetuned.",
            "",
            "## Inputs",
            "",
            "| array | shape | bands | units | gsd |",
            "|---|---|---|---|---|",
            *(
                f"| `{item['name']}` | `[B, {len(item['bands'])}, {item['side_px']}, {item['side_px']}]` "
                f"| {', '.join(item['bands'])} | {item['units']} | {item['gsd_m']} m |"
                for item in metadata["inputs"]
            ),
            f"| `presence` | `[B, {len(metadata['modalities'])}]` | {', '.join(metadata['modalities'])} | 1 or 0 | |",
            "",
            "dB is 10·log10 of backscatter; DN is reflectance times 10,000 (baselines from 04.00 on: subtract 1,000).",
            "An absent modality's arrays may hold anything; its column in `presence` is 0.",
            "",
            "## Data",
            "",
            metadata["data"],
            "",
            f"Classes: {', '.join(metadata['classes'])}.",
            "",
            "## Scores",
            "",
            table.rstrip(),
            "",
            "`pretrained` rows start from masked reconstruction, `random` rows from the same initial weights.",
            "",
            "## Where it comes from",
            "",
            f"- commit `{git['commit']}`{' with uncommitted changes' if git['is_dirty'] else ''}",
            f"- seed {provenance['seed']}",
            *(f"- input `{path}`: `{digest}`" for path, digest in provenance["inputs"].items()),
            f"- ONNX against torch: largest difference {worst:.2g} over {parity['num_pairs']} test pairs, "
            f"allowed {parity['max_abs_error_allowed']:g}",
            "",
        ]
    )
