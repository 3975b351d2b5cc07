"""The model card: tracked facts about one exported model, as Markdown with pictures beside it."""

import json
from calendar import month_name
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fusmae.data.index import SPLITS, Pair, read_index
from fusmae.evaluation.report import as_markdown
from fusmae.evaluation.resampling import METRICS
from fusmae.release.lineage.record import GitState, Lineage, RunFacts
from fusmae.release.registry.card_findings import (
    Coverage,
    chance,
    cover,
    cover_by_split,
    every_modality,
    known_failures,
)
from fusmae.release.registry.variants import Offer


def markdown_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines of a Markdown table; vertical bars within cells are escaped."""
    lines = [head, ["---"] * len(head), *rows]
    return ["| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines]


def energy_and_time(runs: Sequence[RunFacts]) -> list[str]:
    """Table of each training run's duration, device, and energy where it was measured."""
    if not runs:
        return ["Not known: the runs were not recorded."]
    rows = [
        [
            run.stage,
            f"{run.started:%Y-%m-%d %H:%M}" if run.started else "not known",
            f"{run.seconds:.0f} s" if run.seconds is not None else "not known",
            run.device or "not known",
            str(run.num_threads or "not known"),
            f"{run.gpu_wh:.1f} Wh" if run.gpu_wh is not None else "not measured",
        ]
        for run in runs
    ]
    known = [run.seconds for run in runs if run.seconds is not None]
    return [
        *markdown_table(["run", "started (UTC)", "duration", "device", "CPU threads", "energy of the GPU"], rows),
        "",
        f"{f'{sum(known):.0f} s' if known else 'Not known how long'} in all, from each run's first start to its end: "
        "pauses after a kill count. Energy comes from the power of graphics cards that MLflow samples where the driver "
        "tells it, pauses left out; that of CPU, memory and cooling is not measured.",
    ]


def origin(lineage: Lineage) -> list[str]:
    """List of commit, libraries, hashes, archives and runs."""
    return [
        f"- registered at commit {_git(lineage.git)}",
        *([f"- exported at commit {_git(lineage.exported)}"] if lineage.exported != lineage.git else []),
        f"- seed {lineage.seed}; {', '.join(f'{name} {number}' for name, number in lineage.versions.items())}",
        *(f"- not known: {gap}" for gap in lineage.gaps),
        *(f"- raw archive `{name}`: `{checksum}`" for name, checksum in lineage.receipt.get("files", {}).items()),
        *(f"- DVC: `{path}` is `md5:{md5}`, made by stage {name}" for name, path, md5 in _made(lineage)),
        *(f"- MLflow: run `{run.run_id}` of {run.stage}, commit {_run_commit(run)}" for run in lineage.runs),
        *([f"- Prefect: flow run `{lineage.flow_run}`"] if lineage.flow_run else []),
        "- all parameters, and the hashes of every line of code: `lineage.json` beside this card",
    ]


def _git(git: GitState) -> str:
    return f"`{git.commit or 'none'}`{'' if git.changes == 'clean' else f', {git.changes}'}"


def _run_commit(run: RunFacts) -> str:
    return _git(GitState(commit=run.commit, is_dirty=run.is_dirty)) if run.is_known else "not known"


def _made(lineage: Lineage) -> Iterator[tuple[str, str, str]]:
    for stage in lineage.stages:
        yield from ((stage.name, path, md5) for path, md5 in stage.outs.items())


@dataclass(frozen=True)
class CardFacts:
    """The facts that a card is written from.

    Attributes:
        metadata: metadata of the graph.
        scores: content of `scores.json`, which `fusmae evaluate` wrote.
        parity: report on parity.
        report: report of the examination.
        pairs: pairs of the index.
        lineage: lineage of the model.
        offer: variants of the model.
        curves: file name of the precision-recall curves' picture.
        reconstructions: file names of the reconstructions' pictures.
    """

    metadata: Mapping[str, Any]
    scores: Mapping[str, Any]
    parity: Mapping[str, Any]
    report: Mapping[str, Any]
    pairs: Sequence[Pair]
    lineage: Lineage
    offer: Offer
    curves: str
    reconstructions: Sequence[str]

    @classmethod
    def read(
        cls,
        metadata: Mapping[str, Any],
        lineage: Lineage,
        offer: Offer,
        *,
        scores: Path,
        parity: Path,
        report: Path,
        index: Path,
        curves: Path,
        reconstructions: Sequence[Path],
    ) -> "CardFacts":
        """Read the facts from the files of earlier stages; each argument is named like its attribute."""
        return cls(
            metadata=metadata,
            scores=json.loads(scores.read_text(encoding="utf-8")),
            parity=json.loads(parity.read_text(encoding="utf-8")),
            report=json.loads(report.read_text(encoding="utf-8")),
            pairs=read_index(index),
            lineage=lineage,
            offer=offer,
            curves=curves.name,
            reconstructions=[path.name for path in reconstructions],
        )


def model_card(facts: CardFacts) -> str:
    """The card as Markdown; pictures are linked by their file names, so they must lie in the card's folder."""
    trained = cover([pair for pair in facts.pairs if pair.split == "train"])
    sections = {
        "Intended use": _intended(facts, trained),
        "Out of scope": _out_of_scope(trained),
        "Inputs": _inputs(facts.metadata),
        "Runtime": _runtime(facts.metadata),
        "Data": _data(facts),
        "Scores": [as_markdown(facts.scores).rstrip()],
        "Where a modality is missing": _missing(facts),
        "Against random initial weights": _against_random(facts.scores),
        "Classes": _classes(facts),
        "Known failures": [f"- {sentence}" for sentence in _failures(facts)] or ["None that these scores show."],
        "Variants": facts.offer.described(),
        "Pictures": _pictures(facts),
        "Time and energy": energy_and_time(facts.lineage.runs),
        "Where it comes from": [*origin(facts.lineage), _parity(facts.parity)],
    }
    warning = facts.scores["warning"]
    lines = [f"# {facts.lineage.name}", "", *([f"> **{warning}**", ""] if warning else [])]
    for title, section in sections.items():
        lines += [f"## {title}", "", *section, ""]
    return "\n".join(lines)


def short_card(facts: CardFacts, max_chars: int) -> str:
    """A short card for the registry's page: use, scores and known failures; the card itself has the rest.

    Args:
        facts: facts as for `model_card`.
        max_chars: maximum length of the text in characters; if it is too long, the last known failures are left out.
    """
    warning = facts.scores["warning"]
    trained = cover([pair for pair in facts.pairs if pair.split == "train"])
    rows, random = _own_rows(facts)
    lines = [
        [setting, *(f"{scores[key]:.3f}{_ends(scores, key)}" for key in METRICS), _beside(scores, random.get(setting))]
        for setting, scores in rows.items()
    ]
    head = [
        *([f"**{warning}**", ""] if warning else []),
        *_intended(facts, trained),
        "",
        *markdown_table(["modalities", "micro AP", "macro AP", "micro AP from random weights"], lines),
        "",
        f"{facts.scores['num_pairs']} test pairs of {facts.scores['num_places']} places; in brackets 95 % intervals, "
        "where there are places enough.",
        "",
    ]
    foot = ["", "The whole card: `card.md` among the files of the logged model, with `lineage.json` beside it."]
    failures = [f"- {sentence}" for sentence in _failures(facts)]
    for count in range(len(failures), -1, -1):
        left_out = len(failures) - count
        more = [f"- … and {left_out} more, in the card"] if left_out else []
        listed = ["**Known failures**", "", *failures[:count], *more] if failures else []
        text = "\n".join([*head, *listed, *foot])
        if len(text) <= max_chars:
            break
    return text


def _ends(scores: Mapping[str, Any], key: str) -> str:
    ends = scores["intervals"].get(key)
    return f" [{ends[0]:.2f}, {ends[1]:.2f}]" if ends else ""


def _beside(scores: Mapping[str, Any], other: Mapping[str, Any] | None) -> str:
    return f"{other['micro_ap']:.3f} ({_apart(scores, other)})" if other else "not measured"


def _intended(facts: CardFacts, trained: Coverage) -> list[str]:
    given = facts.metadata
    where = f" in {', '.join(trained.countries)}" if trained.countries else ""
    return [
        f"Multi-label classification of co-registered {' and '.join(given['modalities'])} tiles of {given['tile_m']} m "
        f"a side ({given['tile_px']} px at the finest resolution): for each tile, a probability for each of "
        f"{len(given['classes'])} classes.",
        "",
        f"It learned from {trained.num_pairs} pairs{where}{_within(trained)}, acquired from "
        f"{trained.first:%Y-%m-%d} to {trained.last:%Y-%m-%d}.",
    ]


def _within(found: Coverage) -> str:
    if found.bounds is None:
        return ""
    west, south, east, north = found.bounds
    return f", between {west:.2f}° and {east:.2f}° of longitude and {south:.2f}° and {north:.2f}° of latitude"


def _out_of_scope(trained: Coverage) -> list[str]:
    unseen = [name for number, name in enumerate(month_name) if number and number not in trained.months]
    return [
        "- tiles of another size, with other bands or in other units: the graph takes the arrays below and no others",
        "- anything finer than a tile: there is one answer per tile",
        "- other classes than those below, and claims about classes without a test pair",
        f"- land outside the training data{_within(trained)}: it was not tested there",
        *([f"- {', '.join(unseen)}: no training pair is of these months"] if unseen else []),
        *(["- seasonal snow: no training pair has any, by its source"] if not trained.num_snowy else []),
        *(["- clouds and their shadows: no training pair has any, by its source"] if not trained.num_cloudy else []),
    ]


def _inputs(metadata: Mapping[str, Any]) -> list[str]:
    rows = [
        [
            f"`{item['name']}`",
            f"`[B, {len(item['bands'])}, {item['side_px']}, {item['side_px']}]`",
            ", ".join(item["bands"]),
            item["units"],
            f"{item['gsd_m']} m",
        ]
        for item in metadata["inputs"]
    ]
    modalities = metadata["modalities"]
    rows.append(["`presence`", f"`[B, {len(modalities)}]`", ", ".join(modalities), "1 or 0", ""])
    return [
        *markdown_table(["array", "shape", "bands", "units", "gsd"], rows),
        "",
        "dB is 10·log10 of backscatter; DN is reflectance times 10,000 (baselines from 04.00 on: subtract 1,000).",
        "An absent modality's arrays may hold anything; its column in `presence` is 0.",
    ]


def _runtime(metadata: Mapping[str, Any]) -> list[str]:
    needs = metadata["runtime"]
    return [
        f"onnxruntime {needs['onnxruntime'].removeprefix('>=')} or later, or another runtime of ONNX with operator set "
        f"{needs['opset']} and IR version {needs['ir_version']}."
    ]


def _data(facts: CardFacts) -> list[str]:
    covered = cover_by_split(facts.pairs)
    shared = sum(
        bool(covered[one].places & covered[other].places) for one, other in (SPLITS[:2], SPLITS[1:], SPLITS[::2])
    )
    rows = [
        [
            split,
            str(found.num_pairs),
            str(len(found.places)),
            f"{found.first:%Y-%m-%d} to {found.last:%Y-%m-%d}",
            ", ".join(found.countries) or "not stated",
        ]
        for split, found in covered.items()
    ]
    apart = {check["name"]: check["got"] for check in facts.report["checks"]}
    left_out = facts.report["left_out"]
    return [
        facts.metadata["data"],
        "",
        *markdown_table(["split", "pairs", "places", "acquired", "countries"], rows),
        "",
        f"Places in more than one split: {shared or 'none'}.",
        *(f"{apart[name].capitalize()}." for name in ("neighbours",) if name in apart),
        f"Pairs of the index that could not be used: {len(left_out)}.",
    ]


def _own_rows(facts: CardFacts) -> tuple[Mapping[str, Any], Mapping[str, Any]]:
    """Scores by modality setting of the exported model, and of the same model from random initial weights."""
    protocol, initialisation = facts.metadata["trained"]["stage"].split("-", 1)
    by_weights = facts.scores["rows"][protocol]
    return by_weights[initialisation], by_weights.get("random", {})


def _missing(facts: CardFacts) -> list[str]:
    rows, _ = _own_rows(facts)
    best = rows[every_modality(rows)]
    lines = [
        [setting, *(f"{scores[key]:.3f} ({scores[key] - best[key]:+.3f})" for key in METRICS)]
        for setting, scores in rows.items()
    ]
    return markdown_table(["modalities", "micro AP (difference to all)", "macro AP (difference to all)"], lines)


def _against_random(report: Mapping[str, Any]) -> list[str]:
    lines = []
    for protocol, by_weights in report["rows"].items():
        for name, rows in by_weights.items():
            if name == "random" or "random" not in by_weights:
                continue
            for setting, scores in rows.items():
                other = by_weights["random"][setting]
                numbers = [scores["micro_ap"], other["micro_ap"]]
                cells = [*(f"{number:.3f}" for number in numbers), f"{numbers[0] - numbers[1]:+.3f}"]
                lines.append([protocol, name, setting, *cells, _apart(scores, other)])
    head = ["protocol", "weights", "modalities", "micro AP", "random", "difference", "95 % intervals"]
    return [
        *markdown_table(head, lines),
        "",
        "`random` starts from the initial weights that pretraining started from.",
    ]


def _apart(scores: Mapping[str, Any], other: Mapping[str, Any]) -> str:
    one, two = scores["intervals"].get("micro_ap"), other["intervals"].get("micro_ap")
    if not (one and two):
        return "not computed"
    return "apart" if one[0] > two[1] or two[0] > one[1] else "overlap"


def _classes(facts: CardFacts) -> list[str]:
    rows, _ = _own_rows(facts)
    found = rows[every_modality(rows)]["per_class_ap"]
    counts, num_test = facts.report["classes"], facts.report["pairs"]["test"]
    lines = [
        [
            name,
            *(str(counts[name][split]) for split in SPLITS),
            f"{found[name]:.3f}" if name in found else "not tested",
            f"{chance(counts[name]['test'], num_test):.3f}" if name in found else "",
        ]
        for name in facts.metadata["classes"]
    ]
    return markdown_table(["class", *SPLITS, "AP, every modality", "chance"], lines)


def _failures(facts: CardFacts) -> list[str]:
    rows, random = _own_rows(facts)
    return known_failures(rows, list(facts.scores["absent_classes"]), random, facts.report)


def _pictures(facts: CardFacts) -> list[str]:
    return [
        f"![Precision and recall over the whole test set]({facts.curves})",
        *(f"\n![True, masked and predicted]({name})" for name in facts.reconstructions),
    ]


def _parity(parity: Mapping[str, Any]) -> str:
    worst = max(check["max_abs_error"] for check in parity["checks"])
    return (
        f"- ONNX against torch: largest difference {worst:.2g} over {parity['num_pairs']} test pairs, "
        f"allowed {parity['max_abs_error_allowed']:g}"
    )
