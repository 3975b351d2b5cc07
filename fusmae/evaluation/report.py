"""The metrics table: one row a protocol, initialisation and modality setting."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from fusmae.evaluation.metrics import Scores
from fusmae.evaluation.resampling import METRICS, why_no_interval


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes:
        protocol: probe or finetune.
        initialisation: pretrained or random.
        setting: modalities that the model was fed: `s1+s2`.
        scores: over the whole test set.
        intervals: ends of the 95 % interval of micro_ap and macro_ap; empty where there is none.
    """

    protocol: str
    initialisation: str
    setting: str
    scores: Scores
    intervals: Mapping[str, tuple[float, float]]

    @property
    def name(self) -> str:
        """`finetune/pretrained/s1+s2`."""
        return f"{self.protocol}/{self.initialisation}/{self.setting}"

    @property
    def tracked(self) -> dict[str, float]:
        """What the row's MLflow run gets."""
        # MLflow admits no plus sign in a name.
        prefix = f"test/{self.setting.replace('+', '-')}"
        return {f"{prefix}/{name}": getattr(self.scores, name) for name in METRICS}


@dataclass(frozen=True)
class Basis:
    """What the scores rest on.

    Attributes:
        num_pairs: test pairs.
        num_places: that they are of, see `independent_places`.
        resamples: bootstrap draws of places; 0 for no intervals.
        seed: the run's seed.
        warning: what must stand above every number, as of synthetic data.
    """

    num_pairs: int
    num_places: int
    resamples: int
    seed: int
    warning: str = ""


def as_report(rows: Sequence[Row], basis: Basis) -> dict[str, Any]:
    """The whole table as nested JSON: for the card, the lineage and people, not for `dvc metrics`."""
    table: dict[str, Any] = {}
    for row in rows:
        values = asdict(row.scores)
        absent = values.pop("absent_classes")
        values["intervals"] = dict(row.intervals)
        table.setdefault(row.protocol, {}).setdefault(row.initialisation, {})[row.setting] = values
    return {**asdict(basis), "absent_classes": list(absent) if rows else [], "rows": table}


def as_metrics(report: Mapping[str, Any]) -> dict[str, Any]:
    """The dozen numbers that runs are compared by, for `dvc metrics` and `dvc exp show`.

    Micro and macro AP of every model with every modality, and of the model that is exported (finetuned from pretrained
    weights) with each modality alone.
    """
    found: dict[str, Any] = {"warning": report["warning"]} if report["warning"] else {}
    for protocol, by_weights in report["rows"].items():
        for weights, by_setting in by_weights.items():
            is_exported = (protocol, weights) == ("finetune", "pretrained")
            every, *others = sorted(by_setting, key=lambda setting: -setting.count("+"))
            alone = [setting for setting in others if is_exported and "+" not in setting]
            for setting in (every, *alone):
                scores = {name: by_setting[setting][name] for name in METRICS}
                found.setdefault(protocol, {}).setdefault(weights, {})[setting] = scores
    return found


def as_markdown(report: Mapping[str, Any]) -> str:
    """The table as people read it, with the intervals and what they mean.

    Args:
        report: from `as_report`.
    """
    lines = [
        *([f"**{report['warning']}**", ""] if report["warning"] else []),
        "| protocol | weights | modalities | micro AP | 95 % | macro AP | 95 % | micro F1 | macro F1 |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for protocol, by_weights in report["rows"].items():
        for weights, by_setting in by_weights.items():
            for setting, values in by_setting.items():
                cells = [protocol, weights, setting]
                for name in METRICS:
                    interval = "–".join(f"{end:.2f}" for end in values["intervals"].get(name, ()))
                    cells += [f"{values[name]:.3f}", interval or "–"]
                cells += [f"{values['micro_f1']:.3f}", f"{values['macro_f1']:.3f}"]
                lines.append("| " + " | ".join(cells) + " |")
    absent = "; ".join(report["absent_classes"]) or "none"
    lines += [
        "",
        f"{report['num_pairs']} test pairs of {report['num_places']} places, seed {report['seed']}. "
        f"{_intervals(report)}",
        f"Classes without a test pair, left out of macro means: {absent}.",
    ]
    return "\n".join(lines) + "\n"


def _intervals(report: Mapping[str, Any]) -> str:
    num_places, resamples = report["num_places"], report["resamples"]
    if not resamples:
        return "No intervals were asked for."
    if why := why_no_interval(num_places):
        return f"No intervals: {why}."
    return (
        f"95 %: percentile bootstrap, {resamples} draws of {num_places} places (pairs of one place or one acquisition "
        "are drawn together); on few places it sits a little high."
    )
