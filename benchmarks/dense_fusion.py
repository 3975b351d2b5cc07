"""Does a dense model with both sensors find what neither shows alone?

Two classes of the synthetic world differ only in whether their green plots are the rough ones: each sensor shows the
plots, both together show which class it is. Dense models are trained from random weights with both sensors, with S1 and
with S2 alone, for the same number of steps. The score is the mean IoU of these two classes, which a model that can't
tell them apart keeps low however well it finds both together; intervals are over places and seeds.

    python -m benchmarks.dense_fusion
"""

import time
from typing import Annotated, Any

import numpy as np
import typer
from numpy.typing import NDArray
from sklearn.metrics import jaccard_score

from benchmarks import command_line as cli
from benchmarks.dense_runs import counts_of, make_world, train
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


def main(
    pairs: Annotated[int, typer.Option(help="Pairs of the world, half of which are trained on.")] = 600,
    steps: Annotated[int, typer.Option(help="Training steps of 16 pairs.")] = 750,
    seeds: Annotated[int, typer.Option(help="Number of seeds.")] = 3,
    patch_px: Annotated[int, typer.Option(help="Side of a patch.")] = 12,
    folder: cli.Folder = cli.MADE,
    out: cli.Out = cli.RESULTS / "dense_fusion.json",
) -> None:
    """Train and score; write the report."""
    world = make_world(folder / f"dense-{pairs}", pairs, 7, is_coarse=False)
    reader = ShardReader(world.shards, "test")
    places = read_places(world.index, reader.keys)
    weights = place_resamples(places, RESAMPLES, 0)
    classes = [at for at, name in enumerate(reader.classes) if COVERS[name].contrast == CONTRAST]
    scorer, found = scorer_of(reader.task, reader.labels), {}
    rows: dict[str, Any] = {}
    for modalities in SETTINGS:
        inputs = tuple(item for item in world.preprocessing.inputs if item.modality in modalities)
        preprocessing = Preprocessing(inputs=inputs, statistics=world.preprocessing.statistics)
        draws, scores = [], []
        begun = time.perf_counter()
        for seed in range(seeds):
            _, start = initial_autoencoder(model_of(modalities, patch_px), preprocessing, seed)
            module = train(world, start, steps=steps, seed=seed, modalities=modalities)
            counts = counts_of(world, module, modalities)
            confusions = counts[:, : len(reader.classes) ** 2].astype(np.float64)
            side = len(reader.classes)
            drawn = (weights.astype(np.float64) @ confusions).reshape(-1, side, side)
            draws.append([ious_of(confusion, classes) for confusion in drawn])
            whole = scorer.score(counts)
            scores.append(
                {"focus_iou": ious_of(confusions.sum(axis=0).reshape(side, side), classes), **whole.values}
                | {"per_class": dict(whole.per_class)}
            )
            print(modalities, seed, scores[-1]["focus_iou"], scores[-1]["miou"], flush=True)
        name = "+".join(modalities)
        found[name] = over_seeds(np.array(draws), 0)
        low, high = np.quantile(found[name], [0.025, 0.975]).tolist()
        mean = float(np.mean([score["focus_iou"] for score in scores]))
        rows[name] = {"focus_iou": mean, "interval": [low, high], "seeds": scores}
        print(name, mean, [low, high], f"{time.perf_counter() - begun:.0f} s", flush=True)
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
                "difference": rows[both]["focus_iou"] - rows[name]["focus_iou"],
                "interval": list(difference(found[both], found[name])),
            }
            for name in rows
            if name != both
        },
    }
    write_json(out, report)
    print(report["both_minus"])


if __name__ == "__main__":
    cli.run_main(main)
