"""Does a dense model with both sensors find what neither shows alone?

Two classes of the synthetic world differ only in whether their green plots are the rough ones: each sensor shows the
plots, both together show which class it is. Dense models are trained from random weights with both sensors, with S1 and
with S2 alone, for the same number of steps. `told_apart` is the balanced accuracy over the pixels of these classes that
are predicted as one of them: 0.5 by chance, and with one sensor, however well it finds the plots. `focus_iou`, the mean
IoU of the two classes, counts how well they are found, too. Intervals are over places and seeds.

    python -m benchmarks.dense_fusion
"""

import multiprocessing
import os
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from typing import Annotated, Any

import numpy as np
import torch
import typer
from numpy.typing import NDArray
from sklearn.metrics import jaccard_score, recall_score

from benchmarks import command_line as cli
from benchmarks.dense_runs import World, counts_of, make_world, train
from fusmae.config.training import ModelConfig
from fusmae.data.shards import ShardReader
from fusmae.evaluation.resampling import difference, over_seeds, place_resamples, read_places
from fusmae.evaluation.scorers import scorer_of
from fusmae.files import write_json
from fusmae.models.preprocess import Preprocessing
from fusmae.sources.synthetic.landscape import COVERS
from fusmae.training.reconstruction import initial_autoencoder

RESAMPLES = 1000
SETTINGS = (("s1", "s2"), ("s1",), ("s2",))
CONTRAST = "agreement"
"""Name of the contrast whose classes need both sensors."""


def model_of(modalities: tuple[str, ...], patch_px: int) -> ModelConfig:
    """A small model; one modality has nothing to fuse."""
    is_fused = len(modalities) > 1
    return ModelConfig(
        patch_px=patch_px, dim=96, depth=4, num_heads=4, decoder_dim=64, decoder_depth=1, decoder_num_heads=4,
        early_fusion=is_fused, feature_fusion=is_fused, masking="independent",
        mask_ratio=dict.fromkeys(modalities, 0.75), target_norm="patch", decode_fraction=1.0,
    )  # fmt: skip


def ious_of(confusion: NDArray[Any], classes: list[int]) -> float:
    """Mean IoU of some classes of a confusion matrix `[K, K]`."""
    true, predicted = np.indices(confusion.shape).reshape(2, -1)
    weights = confusion.ravel()
    return float(
        jaccard_score(true, predicted, labels=classes, average="macro", sample_weight=weights, zero_division=0)
    )


def told_apart(confusion: NDArray[Any], classes: list[int]) -> float:
    """Balanced accuracy of some classes among one another, of a confusion matrix `[K, K]`; NaN without any pixel."""
    among = confusion[np.ix_(classes, classes)]
    if not among.any():
        return float("nan")
    true, predicted = np.indices(among.shape).reshape(2, -1)
    return float(recall_score(true, predicted, average="macro", sample_weight=among.ravel(), zero_division=np.nan))


METRICS: dict[str, Callable[[NDArray[Any], list[int]], float]] = {"told_apart": told_apart, "focus_iou": ious_of}


def trained_counts(
    world: World, modalities: tuple[str, ...], seed: int, steps: int, patch_px: int
) -> NDArray[np.float64]:
    """Train with some modalities; counts `[N, S]` of the test maps."""
    torch.set_num_threads(1)
    inputs = tuple(item for item in world.preprocessing.inputs if item.modality in modalities)
    preprocessing = Preprocessing(inputs=inputs, statistics=world.preprocessing.statistics)
    _, start = initial_autoencoder(model_of(modalities, patch_px), preprocessing, seed)
    module = train(world, start, steps=steps, seed=seed, modalities=modalities)
    return counts_of(world, module, modalities).astype(np.float64)


def main(
    pairs: Annotated[int, typer.Option(help="Pairs of the world, half of which are trained on.")] = 600,
    steps: Annotated[int, typer.Option(help="Training steps of 16 pairs.")] = 750,
    seeds: Annotated[int, typer.Option(help="Number of seeds.")] = 3,
    patch_px: Annotated[int, typer.Option(help="Side of a patch.")] = 12,
    processes: Annotated[int, typer.Option(help="Trainings at once, each on one core.")] = os.cpu_count() or 1,
    folder: cli.Folder = cli.MADE,
    out: cli.Out = cli.RESULTS / "dense_fusion.json",
) -> None:
    """Train and score; write the report."""
    world = make_world(folder / f"dense-{pairs}", pairs, 7, is_coarse=False)
    reader = ShardReader(world.shards, "test")
    places = read_places(world.index, reader.keys)
    weights = place_resamples(places, RESAMPLES, 0)
    classes = [at for at, name in enumerate(reader.classes) if COVERS[name].contrast == CONTRAST]
    scorer, side = scorer_of(reader.task, reader.labels), len(reader.classes)
    jobs = [(modalities, seed) for modalities in SETTINGS for seed in range(seeds)]
    with ProcessPoolExecutor(processes, multiprocessing.get_context("spawn")) as pool:
        running = [pool.submit(trained_counts, world, *job, steps, patch_px) for job in jobs]
        made = {}
        for (modalities, seed), future in zip(jobs, running, strict=True):
            made[modalities, seed] = future.result()
            print("trained", "+".join(modalities), "with seed", seed, flush=True)
    rows: dict[str, Any] = {}
    found: dict[str, dict[str, NDArray[Any]]] = {}
    for modalities in SETTINGS:
        scores, draws = [], {name: [] for name in METRICS}
        for seed in range(seeds):
            counts = made[modalities, seed]
            confusions = counts[:, : side**2]
            whole, drawn = scorer.score(counts), (weights.astype(np.float64) @ confusions).reshape(-1, side, side)
            total = confusions.sum(axis=0).reshape(side, side)
            for name, measure in METRICS.items():
                draws[name].append([measure(confusion, classes) for confusion in drawn])
            focused = {name: measure(total, classes) for name, measure in METRICS.items()}
            scores.append({**focused, **whole.values, "per_class": dict(whole.per_class)})
        name = "+".join(modalities)
        found[name] = {metric: over_seeds(np.array(drawn), 0) for metric, drawn in draws.items()}
        rows[name] = {
            metric: {
                "mean": float(np.mean([score[metric] for score in scores])),
                "interval": np.nanquantile(found[name][metric], [0.025, 0.975]).tolist(),
            }
            for metric in METRICS
        } | {"seeds": scores}
        print(name, {metric: rows[name][metric] for metric in METRICS}, flush=True)
    both = "+".join(SETTINGS[0])
    report = {
        **cli.measured_on(),
        "data": reader.origin.described,
        "classes": [reader.classes[at] for at in classes],
        "num_train": len(ShardReader(world.shards, "train", verify=False)),
        "num_test": len(reader),
        "num_places": len(set(places)),
        "steps": steps,
        "rows": rows,
        "both_minus": {
            name: {
                metric: {
                    "difference": rows[both][metric]["mean"] - rows[name][metric]["mean"],
                    "interval": list(difference(found[both][metric], found[name][metric])),
                }
                for metric in METRICS
            }
            for name in rows
            if name != both
        },
    }
    write_json(out, report)
    print(report["both_minus"])


if __name__ == "__main__":
    cli.run_main(main)
