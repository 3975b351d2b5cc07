"""The model card: facts about one exported model and its known failures, as Markdown with pictures beside it."""

from calendar import month_name
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from fusmae.config.task import Task
from fusmae.data.index import SPLITS, Pair
from fusmae.evaluation.report import as_markdown, metric_label
from fusmae.evaluation.scorers import LOWER_IS_BETTER
from fusmae.inference.session import task_of
from fusmae.release.lineage.record import GitState, Lineage
from fusmae.release.markdown import fill

_TEMPLATES = Path(__file__).parent / "templates"
_FEW_PAIRS = 5
_WIDE_INTERVAL = 0.1
_HARDLY_FOUND = 0.05
_STATUSES = {"warns": "warns", "tolerated": "was tolerated", "skipped": "can’t tell"}


@dataclass(frozen=True)
class CardFacts:
    """The facts that the card of an encoder is written from."""

    template: ClassVar[str] = "encoder_card.md"

    metadata: Mapping[str, Any]  # metadata of the graph
    scores: Mapping[str, Any]  # content of `scores.json`, which `fusmae evaluate` or `measure-encoder` wrote
    parity: Mapping[str, Any]  # report on parity
    report: Mapping[str, Any]  # report of the examination
    pairs: Sequence[Pair]  # pairs of the index
    lineage: Lineage  # lineage of the model
    reconstructions: Sequence[Path]  # pictures of the reconstructions

    @property
    def measured(self) -> tuple[str, str]:
        """Protocol and initial weights of the rows in `scores` that are this model's own."""
        return "probe", "pretrained"

    def with_computed(self) -> dict[str, Any]:
        """All that the templates name: these facts, and what is computed from them."""
        protocol, initialisation = self.measured
        by_weights = self.scores["rows"].get(protocol, {})
        rows, random = by_weights.get(initialisation, {}), by_weights.get("random", {})
        best = rows[max(rows, key=lambda setting: setting.count("+"))] if rows else {}
        covered = {split: _coverage([pair for pair in self.pairs if pair.split == split]) for split in SPLITS}
        num_splits = Counter(place for found in covered.values() for place in found["places"])
        metrics = self.scores["metrics"].get(protocol)
        return vars(self) | {
            "GitState": GitState,
            "task": task_of(self.metadata) or Task(),
            "metrics": metrics,
            "label": metric_label,
            "lower_is_better": LOWER_IS_BETTER,
            "scores_table": as_markdown(self.scores).rstrip(),
            "covered": covered,
            "trained": covered["train"],
            "num_shared_places": sum(count > 1 for count in num_splits.values()),
            "rows": rows,
            "random": random,
            "best": best,
            "failures": [
                *(_known_failures(rows, best, random, self.scores, self.report, metrics) if rows else ()),
                *_of_examination(self.report),
            ],
        }


@dataclass(frozen=True)
class PredictorFacts(CardFacts):
    """The facts that the card of a finetuned model is written from."""

    template: ClassVar[str] = "card.md"
    accepted: Sequence[Path]  # ONNX files of the accepted variants
    variants_table: str  # measurements of all variants, in Markdown
    figures: Sequence[Path]  # pictures of what it predicts: curves, confusion, maps, values

    @property
    def measured(self) -> tuple[str, str]:
        """The training that made the weights, as `finetune` from `pretrained`."""
        protocol, _, initialisation = self.metadata["trained"]["stage"].partition("-")
        return protocol, initialisation


def model_card(facts: CardFacts) -> str:
    """The card as Markdown; pictures are linked by their file names, so they must lie in the card's folder."""
    return fill(_TEMPLATES / facts.template, **facts.with_computed())


def short_card(facts: CardFacts, max_chars: int) -> str:
    """A short card for the registry's page: use, scores and known failures; the card itself has the rest.

    If the text would be longer than `max_chars` characters, the last known failures are left out.
    """
    known = facts.with_computed()
    for num_shown in range(len(known["failures"]), -1, -1):
        text = fill(_TEMPLATES / "short_card.md", **known, num_shown=num_shown)
        if len(text) <= max_chars:
            break
    return text


def _coverage(pairs: Sequence[Pair]) -> dict[str, Any]:
    """What some pairs cover; there must be at least one."""
    dates = [pair.date for pair in pairs]
    months = {date.month for date in dates}
    lons, lats = ([getattr(pair, name) for pair in pairs] for name in ("lon", "lat"))
    return {
        "num_pairs": len(pairs),
        "places": {pair.place for pair in pairs},
        "countries": sorted({pair.country for pair in pairs} - {""}),
        "first": min(dates),
        "last": max(dates),
        "other_months": [name for number, name in enumerate(month_name) if number and number not in months],
        # West, east, south and north of the tiles' centres in degrees (WGS 84), if the source states all of them.
        "bounds": None if None in (*lons, *lats) else (min(lons), max(lons), min(lats), max(lats)),
        "has_snow": any(pair.is_snowy for pair in pairs),
        "has_clouds": any(pair.is_cloudy for pair in pairs),
    }


def _known_failures(
    rows: Mapping[str, Any],
    best: Mapping[str, Any],
    random: Mapping[str, Any],
    scores: Mapping[str, Any],
    report: Mapping[str, Any],
    metrics: Mapping[str, Any],
) -> list[str]:
    """Known failures as sentences, each with the numbers that it is based on.

    `rows` has the model's scores by modality setting, `random` those of the same model from random initial weights;
    `best` are its scores with every modality, `scores` is the report on all rows, and `metrics` names the scores.
    """
    counts, name = report["classes"] if metrics["per_class"] else {}, metrics["compared"][0]
    label, per_class, of_class = metric_label(name, metrics["unit"]), best["per_class"], metrics["per_class"]
    primary = {setting: found[name] for setting, found in rows.items()}
    ends = {setting: found["intervals"].get(name, (0, 0)) for setting, found in rows.items()}
    num_tested = {known: counts[known]["test"] for known in per_class}
    # A random ranking has approximately this AP, and a guess by the classes' shares this recall; IoU has no such bound.
    chance = {
        known: _HARDLY_FOUND if metrics["kind"] == "segmentation" else number / report["pairs"]["test"]
        for known, number in num_tested.items()
    }
    low = f"At or below chance ({of_class}, and the class’s share of the test pairs)"
    if metrics["kind"] == "segmentation":
        low = f"Hardly found ({of_class} of at most {_HARDLY_FOUND})"
    found = {
        "Not tested, because no test pair has them": scores["absent_classes"],
        "Not learned, because no training pair has them": [known for known in counts if not counts[known]["train"]],
        low: [
            f"{known} ({value:.2f}{'' if metrics['kind'] == 'segmentation' else f', {chance[known]:.2f}'})"
            for known, value in per_class.items()
            if value <= chance[known]
        ],
        f"Tested on fewer than {_FEW_PAIRS} pairs, so that their {of_class} says little": [
            f"{known} ({number})" for known, number in num_tested.items() if number < _FEW_PAIRS
        ],
        f"95 % intervals of {label} wider than {_WIDE_INTERVAL}: smaller differences mean nothing": [
            f"{setting} ({low:.2f}–{high:.2f})" for setting, (low, high) in ends.items() if high - low > _WIDE_INTERVAL
        ],
        f"{_sentence(label)} falls where a modality is missing": [
            f"{setting} ({value:.3f} instead of {best[name]:.3f})"
            for setting, value in primary.items()
            if value < best[name]
        ],
        f"The other modality does not help: {label} is higher without it": [
            f"{setting} ({value:.3f}, all {best[name]:.3f})" for setting, value in primary.items() if value > best[name]
        ],
        f"Pretraining does not beat random initial weights in {label}": [
            f"{setting} ({value:.3f}, random {random[setting][name]:.3f})"
            for setting, value in primary.items()
            if setting in random and value <= random[setting][name]
        ],
    }
    return [f"{problem}: {'; '.join(names)}." for problem, names in found.items() if names]


def _sentence(label: str) -> str:
    return label[:1].upper() + label[1:]


def _of_examination(report: Mapping[str, Any]) -> list[str]:
    """What the examination of the data found, as sentences."""
    return [
        f"The examination’s check `{check['name']}` {_STATUSES[check['status']]}: {check['got']}."
        for check in report["checks"]
        if check["status"] in _STATUSES
    ]
