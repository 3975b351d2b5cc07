"""Can the synthetic world tell a good encoder from a bad one, and fusion from either sensor alone?

The benchmark compares macro AP on the test split of four ways to predict its classes: logistic regression on band
means, on means and deviations, and on features of untrained networks, and networks trained with labels on both sensors,
S1 alone and S2 alone.

    python -m benchmarks.synthetic_world --pairs 4096 --seed 0
"""

import time
from collections.abc import Callable
from typing import Annotated, Any

import numpy as np
import torch
import typer
from numpy.typing import NDArray

from benchmarks import command_line as cli
from benchmarks.world_data import Data, load
from benchmarks.world_readers import (
    logistic_regression,
    rivals_not_told_apart,
    trained_network,
    untrained_encoder,
    untrained_network,
)
from fusmae.config.task import Task
from fusmae.data.index import SPLITS
from fusmae.evaluation.resampling import place_resamples, score_intervals
from fusmae.evaluation.scorers import MultilabelScorer
from fusmae.files import write_json
from fusmae.modalities import BIGEARTHNET
from fusmae.sources.synthetic.landscape import COVERS
from fusmae.sources.synthetic.source import SyntheticSource

RESAMPLES = 500


def report(data: Data, classes: tuple[str, ...], probabilities: NDArray[np.float64]) -> dict[str, Any]:
    """Scores on the test split, with a 95 % interval of macro AP from a bootstrap over scenes."""
    test = data.rows("test")
    labels, scene = data.labels[test], data.scene[test]
    scorer = MultilabelScorer(Task(classes=classes), labels)
    scores = scorer.score(probabilities)
    places = [str(number) for number in scene]
    intervals = score_intervals(scorer, probabilities, places, place_resamples(places, RESAMPLES, 0))
    return {
        "macro_ap": scores["macro_ap"],
        "macro_ap_interval": list(intervals["macro_ap"]),
        "num_places": len(set(places)),
        "micro_ap": scores["micro_ap"],
        "macro_f1": scores["macro_f1"],
        "per_class_ap": scores.per_class,
        "macro_ap_by_contrast": _by_contrast(scores.per_class),
    }


def _by_contrast(per_class: dict[str, float]) -> dict[str, float]:
    found: dict[str, list[float]] = {}
    for name, value in per_class.items():
        found.setdefault(COVERS[name].contrast, []).append(value)
    return {contrast: float(np.mean(values)) for contrast, values in found.items()}


def main(
    pairs: Annotated[int, typer.Option(help="size of the world")] = 4096,
    seed: Annotated[int, typer.Option(help="of the world and of the networks")] = 0,
    epochs: Annotated[int, typer.Option(help="of the trained networks")] = 24,
    threads: Annotated[int, typer.Option(help="torch's")] = 2,
    raw: cli.Folder = cli.MADE / "synthetic_world",
    out: cli.Out = cli.RESULTS / "synthetic_world.json",
) -> None:
    """Print and write the table."""
    torch.set_num_threads(threads)
    source = SyntheticSource(pairs, seed)
    source.fetch(raw.parent, raw)
    data = load(source, raw)
    both = tuple(BIGEARTHNET)
    rows: dict[str, Callable[[], NDArray[np.float64]]] = {
        "chance": lambda: np.tile(data.labels[data.rows("train")].mean(axis=0), (len(data.rows("test")), 1)),
        "rivals not told apart": lambda: rivals_not_told_apart(data, source.task.classes),
        "band means": lambda: logistic_regression(data, data.means),
        "band means and deviations": lambda: logistic_regression(data, np.concatenate([data.means, data.stds], axis=1)),
        "untrained encoder": lambda: logistic_regression(data, untrained_encoder(data, seed)),
        "untrained network": lambda: logistic_regression(data, untrained_network(data, seed)),
        "trained network, both": lambda: trained_network(data, both, epochs, seed),
        "trained network, s1": lambda: trained_network(data, ("s1",), epochs, seed),
        "trained network, s2": lambda: trained_network(data, ("s2",), epochs, seed),
    }
    table = {}
    for name, predict in rows.items():
        start = time.perf_counter()
        table[name] = report(data, source.task.classes, predict()) | {"seconds": round(time.perf_counter() - start, 1)}
        low, high = table[name]["macro_ap_interval"]
        by_contrast = "  ".join(f"{key} {value:.2f}" for key, value in table[name]["macro_ap_by_contrast"].items())
        print(f"{name:28} macro AP {table[name]['macro_ap']:.3f} [{low:.3f}, {high:.3f}]  {by_contrast}", flush=True)
    write_json(
        out,
        {
            "synthetic": True,
            "world": source.fetch(raw.parent, raw)["synthetic"],
            "pairs": {split: len(data.rows(split)) for split in SPLITS},
            "flagged_share": float(data.is_flagged.mean()),
            "labels_a_pair": float(data.labels.sum(axis=1).mean()),
            "seed": seed,
            "epochs": epochs,
            "threads": threads,
            **cli.measured_on(),
            "rows": table,
        },
    )


if __name__ == "__main__":
    cli.run_main(main)
