"""What does each part of the dense head give, and what does it cost?

Four heads on the same encoder, frozen and finetuned, on maps with fine borders and on coarse maps like CORINE's, from
which BigEarthNet's come:

- linear: one linear layer per patch over the last tokens, upsampled;
- tokens: the product's head without the pixels;
- pixels: the product's head without the tokens;
- both: the product's head.

The encoder is pretrained for some epochs on the same pairs. Scores are mean IoU over test with intervals over places
and seeds, and F1 of borders; cost is the exported graph's time per tile relative to the linear head's, by turns.

    python -m benchmarks.dense_heads
"""

import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import torch.nn.functional as F
import typer
from numpy.typing import NDArray
from torch import Tensor, nn

from benchmarks import command_line as cli
from benchmarks.dense_fusion import model_of
from benchmarks.dense_runs import RUNTIME, World, counts_of, make_world, train
from fusmae.config.training import AugmentConfig, PretrainConfig
from fusmae.data.datamodule import Draws, PairDataModule
from fusmae.data.shards import ShardReader
from fusmae.evaluation.resampling import difference, over_seeds, place_resamples, read_places
from fusmae.evaluation.scorers import scorer_of
from fusmae.files import write_json
from fusmae.inference.session import Session
from fusmae.models.dense import DenseHead
from fusmae.models.preprocess import Preprocess
from fusmae.release.export.graph import DeployablePredictor, describe_graph, export_onnx
from fusmae.release.export.onnx_file import save_onnx
from fusmae.release.latency import times_by_turns
from fusmae.training.checkpoint import Checkpoint, part_of
from fusmae.training.reconstruction import start_pretraining
from fusmae.training.supervised import Finetuner
from fusmae.training.trainer import build_trainer, fit

RESAMPLES, ROUNDS = 500, 20
HEADS = ("linear", "tokens", "pixels", "both")


class LinearHead(nn.Module):
    """A norm and one linear layer for all patches, over the mean of the modalities' last tokens, upsampled."""

    def __init__(self, head: DenseHead, num_outputs: int) -> None:
        super().__init__()
        self.blocks, self.map_px, self.grid_side = head.blocks, head.map_px, head.grid_side
        dim = head.norms[-1].weight.shape[0]
        self.norm, self.linear = nn.LayerNorm(dim), nn.Linear(int(dim), num_outputs)

    def forward(
        self, outputs: Sequence[Mapping[str, Tensor]], tiles: Mapping[str, Tensor], present: Mapping[str, Tensor]
    ) -> Tensor:
        """See `DenseHead`."""
        tokens = torch.stack([outputs[-1][name] for name in tiles]).mean(dim=0)
        grid = self.linear(self.norm(tokens)).transpose(1, 2)
        grid = grid.reshape(grid.shape[0], -1, self.grid_side, self.grid_side)
        return F.interpolate(grid, size=(self.map_px, self.map_px), mode="bilinear", align_corners=False)


class _Nothing(nn.Module):
    """A part that gives zeros of the right shape, so that a head goes without it."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width


class NoPixels(_Nothing):
    """In place of the path from the pixels."""

    def forward(self, tile: Tensor) -> Tensor:
        """Zeros `[B, W, H, W]`."""
        return torch.zeros_like(tile[:, :1]).expand(-1, self.width, -1, -1)


class NoTokens(_Nothing):
    """In place of the projection of tokens."""

    def forward(self, tokens: Tensor) -> Tensor:
        """Zeros `[B, L, W]`."""
        return torch.zeros_like(tokens[..., :1]).expand(-1, -1, self.width)


def change_to(kind: str, num_outputs: int) -> Any:
    """What turns the product's head into one of `HEADS`."""

    def change(module: Finetuner) -> None:
        head: Any = module.model.head
        half = next(iter(head.project.values())).out_features
        if kind == "linear":
            module.model.head = LinearHead(head, num_outputs)
        elif kind == "tokens":
            head.pixels = nn.ModuleDict({name: NoPixels(int(half)) for name in head.pixels})
        elif kind == "pixels":
            head.project = nn.ModuleDict({name: NoTokens(int(half)) for name in head.project})

    return change


def pretrained(world: World, epochs: int, seed: int) -> Checkpoint:
    """An encoder pretrained on the world's training pairs."""
    section = PretrainConfig(
        epochs=epochs, batch_size=16, base_lr=0.02, weight_decay=0.05, warmup_epochs=1, modality_drop=0.0,
        augment=AugmentConfig(flip=True, turn=True, min_crop=0.8), num_pictures=0, reconstruction_weight=1.0,
        contrastive_weight=0.0, ema_decay=0.0, evidence_pairs=0, patience=0,
    )  # fmt: skip
    model = model_of(("s1", "s2"), 12)
    module, start = start_pretraining(model, world.preprocessing, section, seed)
    draws = Draws(seed, ("s1", "s2"), model.num_patches(120), augment=section.augment.model_dump())
    data = PairDataModule(world.shards, batch_size=16, draws=draws)
    with tempfile.TemporaryDirectory() as folder:
        weights = fit(build_trainer(RUNTIME, epochs, seed, Path(folder), is_validated=False), module, data)
    return replace(start, weights=part_of(weights, "model."))


def exported(module: Finetuner, start: Checkpoint, path: Path) -> Session:
    """The graph of a trained model."""
    made = DeployablePredictor(Preprocess(start.preprocessing), module.model).eval()
    checkpoint = start.with_head("mean", module.model.task, {}, {}, 120)
    metadata = describe_graph(checkpoint, made, tile_m=1200, data="synthetic", git={})
    save_onnx(export_onnx(made, opset=17), metadata, path)
    return Session(path)


def main(
    pairs: Annotated[int, typer.Option(help="Pairs of the world, half of which are trained on.")] = 600,
    epochs: Annotated[int, typer.Option(help="Epochs of pretraining.")] = 10,
    steps: Annotated[int, typer.Option(help="Training steps of 16 pairs.")] = 150,
    seeds: Annotated[int, typer.Option(help="Number of seeds.")] = 3,
    folder: cli.Folder = cli.MADE,
    out: cli.Out = cli.RESULTS / "dense_heads.json",
) -> None:
    """Train and score each head; write the report."""
    kinds = ("fine", "coarse")
    worlds = {kind: make_world(folder / f"dense-{pairs}", pairs, 7, is_coarse=kind == "coarse") for kind in kinds}
    reader = ShardReader(worlds["fine"].shards, "test")
    places = read_places(worlds["fine"].index, reader.keys)
    weights = place_resamples(places, RESAMPLES, 0)
    starts = [pretrained(worlds["fine"], epochs, seed) for seed in range(seeds)]
    rows: dict[str, Any] = {}
    draws: dict[str, NDArray[np.float64]] = {}
    graphs: dict[str, Session] = {}
    with tempfile.TemporaryDirectory() as made:
        for maps, world in worlds.items():
            scorer = scorer_of(reader.task, reader.labels)
            for how in ("frozen", "finetuned"):
                for kind in HEADS:
                    name, begun, scores, drawn = f"{maps}/{how}/{kind}", time.perf_counter(), [], []
                    for seed, start in enumerate(starts):
                        module = train(
                            world,
                            start,
                            steps=steps,
                            seed=seed,
                            is_frozen=how == "frozen",
                            change=change_to(kind, len(reader.classes)),
                        )
                        counts = counts_of(world, module, ("s1", "s2"))
                        scores.append(dict(scorer.score(counts).values))
                        drawn.append(scorer.draws(counts, weights)["miou"])
                    draws[name] = over_seeds(np.array(drawn), 0)
                    mean = {metric: float(np.mean([score[metric] for score in scores])) for metric in scores[0]}
                    rows[name] = mean | {"interval": np.quantile(draws[name], [0.025, 0.975]).tolist(), "seeds": scores}
                    print(name, rows[name]["miou"], f"{time.perf_counter() - begun:.0f} s", flush=True)
                    if maps == "fine" and how == "finetuned":
                        graphs[kind] = exported(module, starts[-1], Path(made) / f"{kind}.onnx")
        pixels = {name: array.astype(np.float32) for name, array in reader.read(range(8)).items()}
        times = times_by_turns([graphs[kind] for kind in HEADS], pixels, ROUNDS)
    ratios = times / times[0]
    report = {
        **cli.measured_on(),
        "data": reader.origin.described,
        "num_train": len(ShardReader(worlds["fine"].shards, "train", verify=False)),
        "num_test": len(reader),
        "num_places": len(set(places)),
        "pretraining_epochs": epochs,
        "steps": steps,
        "rows": rows,
        "both_minus": {
            name: {
                "difference": rows[of]["miou"] - rows[name]["miou"],
                "interval": list(difference(draws[of], draws[name])),
            }
            for name in rows
            if (of := f"{name.rpartition('/')[0]}/both") != name
        },
        "time_per_linear": {
            kind: np.percentile(ratio, [50, 25, 75]).tolist() for kind, ratio in zip(HEADS, ratios, strict=True)
        },
    }
    write_json(out, report)
    print(report["both_minus"], report["time_per_linear"])


if __name__ == "__main__":
    cli.run_main(main)
