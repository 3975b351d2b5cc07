"""The metrics table: one row per protocol, initialisation and modality setting."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from fusmae.evaluation.metrics import Scores
from fusmae.evaluation.resampling import METRICS, why_no_interval


@dataclass(frozen=True)
class ScoreRow:
    """One line of the table."""

    protocol: str  # name of the protocol: knn, probe or finetune
    initialisation: str  # kind of initial weights: pretrained or random
    setting: str  # modalities that the model got, like `s1+s2`
    scores: Scores  # scores over the whole test set
    # Ends of the 95 % interval of micro_ap and macro_ap; empty where there is none.
    intervals: Mapping[str, tuple[float, float]]

    @property
    def name(self) -> str:
        """Name of the row, like `finetune/pretrained/s1+s2`."""
        return f"{self.protocol}/{self.initialisation}/{self.setting}"

    @property
    def stage(self) -> str:
        """Name of the stage whose MLflow run gets the row; kNN has the encoder of the probe."""
        return "probe" if self.protocol == "knn" else self.protocol

    @property
    def tracked(self) -> dict[str, float]:
        """Metrics of the row's MLflow run."""
        # MLflow allows no plus sign in a name.
        prefix = f"{'test-knn' if self.protocol == 'knn' else 'test'}/{self.setting.replace('+', '-')}"
        return {f"{prefix}/{name}": getattr(self.scores, name) for name in METRICS}


def as_report(
    rows: Sequence[ScoreRow], *, num_pairs: int, num_places: int, resamples: int, seed: int, warning: str = ""
) -> dict[str, Any]:
    """The whole table as nested JSON values, for the card, the lineage and readers, but not for `dvc metrics`.

    The numbers are those of the test pairs, of their places (see `independent_places`) and of bootstrap draws (0 for no
    intervals). The warning is shown above all numbers, for example that the data are synthetic.
    """
    basis = {"num_pairs": num_pairs, "num_places": num_places, "resamples": resamples, "seed": seed, "warning": warning}
    table: dict[str, Any] = {}
    for row in rows:
        values = asdict(row.scores) | {"intervals": dict(row.intervals)}
        del values["absent_classes"]
        table.setdefault(row.protocol, {}).setdefault(row.initialisation, {})[row.setting] = values
    absent = rows[-1].scores.absent_classes if rows else ()
    return {**basis, "absent_classes": list(absent), "rows": table}


def as_metrics(report: Mapping[str, Any]) -> dict[str, Any]:
    """The few numbers by which runs are compared, for `dvc metrics` and `dvc exp show`; `report` is from `as_report`.

    They are micro and macro AP of every model with all modalities together, and of the exported model (finetuned from
    pretrained weights) with each modality alone.
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
    """The table of `as_report` in Markdown, with the intervals and an explanation of them."""
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
    if not report["rows"]:
        return "Nothing was scored: train or test has no labels.\n"
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
