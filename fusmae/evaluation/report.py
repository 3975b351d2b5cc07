"""The metrics table: one row per protocol, initialisation and modality setting."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fusmae.evaluation.resampling import why_no_interval
from fusmae.evaluation.scorers import LABELS, Scorer, Scores


@dataclass(frozen=True)
class ScoreRow:
    """One line of the table."""

    protocol: str  # name of the protocol: knn, probe or finetune
    initialisation: str  # kind of initial weights: pretrained or random
    setting: str  # modalities that the model got, like `s1+s2`
    scorer: Scorer  # how the row was scored
    scores: Scores  # scores over the whole test set
    # Ends of the 95 % interval of each of the scorer's metrics; empty where there is none.
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
        return {f"{prefix}/{name}": self.scores[name] for name in self.scorer.metrics}


def as_report(
    rows: Sequence[ScoreRow], *, num_pairs: int, num_places: int, resamples: int, seed: int, warning: str = ""
) -> dict[str, Any]:
    """The whole table as nested JSON values, for the card, the lineage and readers, but not for `dvc metrics`.

    The numbers are those of the test pairs, of their places (see `independent_places`) and of bootstrap draws (0 for no
    intervals). The warning is shown above all numbers, for example that the data are synthetic. `metrics` says by
    protocol which scores its rows have: those with intervals, the primary one first, `others`, and the one per class.
    """
    basis = {"num_pairs": num_pairs, "num_places": num_places, "resamples": resamples, "seed": seed, "warning": warning}
    table: dict[str, Any] = {}
    metrics: dict[str, Any] = {}
    absent: dict[str, list[str]] = {}
    for row in rows:
        values = {**row.scores.values, "per_class": dict(row.scores.per_class), "intervals": dict(row.intervals)}
        table.setdefault(row.protocol, {}).setdefault(row.initialisation, {})[row.setting] = values
        scorer, value = row.scorer, row.scorer.task.value
        metrics[row.protocol] = {
            "kind": scorer.task.kind,
            "compared": list(scorer.metrics),
            "others": list(scorer.others),
            "per_class": scorer.class_metric,
            "unit": value.unit if value else "",
            "per": "pixel" if scorer.task.is_dense else "tile",
        }
        absent[row.protocol] = list(row.scores.absent_classes)
    # The last rows are those of the model that is exported.
    absent_classes = list(absent.values())[-1] if absent else []
    return {**basis, "absent_classes": absent_classes, "metrics": metrics, "rows": table}


def metric_label(name: str, unit: str = "") -> str:
    """A score's name in tables, with the unit of scores that have one."""
    label = LABELS[name]
    return f"{label} ({unit})" if unit and name in ("rmse", "mae", "bias") else label


def as_metrics(report: Mapping[str, Any]) -> dict[str, Any]:
    """The few numbers by which runs are compared, for `dvc metrics` and `dvc exp show`; `report` is from `as_report`.

    They are the scores with intervals of every model with all modalities together, and of the exported model (finetuned
    from pretrained weights) with each modality alone.
    """
    found: dict[str, Any] = {"warning": report["warning"]} if report["warning"] else {}
    for protocol, by_weights in report["rows"].items():
        for weights, by_setting in by_weights.items():
            is_exported = (protocol, weights) == ("finetune", "pretrained")
            every, *others = sorted(by_setting, key=lambda setting: -setting.count("+"))
            alone = [setting for setting in others if is_exported and "+" not in setting]
            for setting in (every, *alone):
                scores = {name: by_setting[setting][name] for name in report["metrics"][protocol]["compared"]}
                found.setdefault(protocol, {}).setdefault(weights, {})[setting] = scores
    return found


def as_markdown(report: Mapping[str, Any]) -> str:
    """The table of `as_report` in Markdown, with the intervals and an explanation of them.

    Protocols that are scored differently, such as labels of tiles and maps, have a table each.
    """
    if not report["rows"]:
        return "Nothing was scored: train or test has no labels.\n"
    lines = [f"**{report['warning']}**", ""] if report["warning"] else []
    tables: dict[str, list[str]] = {}
    for protocol, metrics in report["metrics"].items():
        tables.setdefault(str(metrics), []).append(protocol)
    for protocols in tables.values():
        lines += [*_table(report, protocols), ""]
    absent = "; ".join(report["absent_classes"]) or "none"
    lines += [
        f"{report['num_pairs']} test pairs of {report['num_places']} places, seed {report['seed']}. "
        f"{_intervals(report)}",
    ]
    if any(metrics["per_class"] for metrics in report["metrics"].values()):
        lines.append(f"Classes without a test pair, left out of macro means: {absent}.")
    return "\n".join(lines) + "\n"


def _table(report: Mapping[str, Any], protocols: Sequence[str]) -> Iterator[str]:
    """One table of the rows of protocols that have the same scores."""
    metrics = report["metrics"][protocols[0]]
    if len(report["metrics"]) > len(protocols):
        noun = "Values" if metrics["kind"] == "regression" else "Classes"
        yield f"{noun} of {metrics['per']}s: {', '.join(protocols)}"
        yield ""
    heads = [part for name in metrics["compared"] for part in (metric_label(name, metrics["unit"]), "95 %")]
    heads += [metric_label(name, metrics["unit"]) for name in metrics["others"]]
    yield "| protocol | weights | modalities | " + " | ".join(heads) + " |"
    yield "|---" * (3 + len(heads)) + "|"
    for protocol in protocols:
        for weights, by_setting in report["rows"][protocol].items():
            for setting, values in by_setting.items():
                cells = [protocol, weights, setting]
                for name in metrics["compared"]:
                    interval = "–".join(f"{end:.2f}" for end in values["intervals"].get(name, ()))
                    cells += [f"{values[name]:.3f}", interval or "–"]
                cells += [f"{values[name]:.3f}" for name in metrics["others"]]
                yield "| " + " | ".join(cells) + " |"


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
