"""The metrics table: one row a protocol, initialisation and modality setting."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from fusmae.evaluation.metrics import Scores


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes:
        protocol: probe or finetune.
        initialisation: pretrained or random.
        setting: modalities that the model was fed: `s1+s2`.
        scores: over the whole test set.
    """

    protocol: str
    initialisation: str
    setting: str
    scores: Scores

    @property
    def name(self) -> str:
        """`finetune/pretrained/s1+s2`."""
        return f"{self.protocol}/{self.initialisation}/{self.setting}"

    @property
    def tracked(self) -> dict[str, float]:
        """What the row's MLflow run gets."""
        # MLflow admits no plus sign in a name.
        prefix = f"test/{self.setting.replace('+', '-')}"
        return {f"{prefix}/{name}": getattr(self.scores, name) for name in ("micro_ap", "macro_ap")}


def as_metrics(rows: Sequence[Row], num_pairs: int, seed: int, warning: str = "") -> dict[str, Any]:
    """The table as nested JSON for `dvc metrics`.

    Args:
        rows: its lines.
        num_pairs: test pairs.
        seed: the run's seed.
        warning: what must stand above every number, as of synthetic data.
    """
    table: dict[str, Any] = {}
    for row in rows:
        values = asdict(row.scores)
        absent = values.pop("absent_classes")
        table.setdefault(row.protocol, {}).setdefault(row.initialisation, {})[row.setting] = values
    return {
        "num_pairs": num_pairs,
        "seed": seed,
        "warning": warning,
        "absent_classes": list(absent) if rows else [],
        "rows": table,
    }


def as_markdown(metrics: Mapping[str, Any]) -> str:
    """The table as people read it, with the intervals and what they mean."""
    lines = [
        *([f"**{metrics['warning']}**", ""] if metrics["warning"] else []),
        "| protocol | weights | modalities | micro AP | 95 % | macro AP | 95 % | micro F1 | macro F1 |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for protocol, by_weights in metrics["rows"].items():
        for weights, by_setting in by_weights.items():
            for setting, values in by_setting.items():
                cells = [protocol, weights, setting]
                for name in ("micro_ap", "macro_ap"):
                    interval = "–".join(f"{end:.2f}" for end in values["intervals"].get(name, ()))
                    cells += [f"{values[name]:.3f}", interval or "–"]
                cells += [f"{values['micro_f1']:.3f}", f"{values['macro_f1']:.3f}"]
                lines.append("| " + " | ".join(cells) + " |")
    absent = "; ".join(metrics["absent_classes"]) or "none"
    lines += [
        "",
        f"{metrics['num_pairs']} test pairs, seed {metrics['seed']}; intervals: percentile bootstrap over pairs, "
        "which sits a little high on few pairs.",
        f"Classes without a test pair, left out of macro means: {absent}.",
    ]
    return "\n".join(lines) + "\n"
