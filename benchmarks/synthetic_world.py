"""Can the synthetic world tell a good encoder from a bad one, and fusion from either sensor alone?

Macro AP on the test split of four ways to read it: logistic regression on band means (and with deviations), on the
features of untrained networks, and networks trained with labels on both sensors, S1 alone and S2 alone.

    python benchmarks/synthetic_world.py --pairs 4096 --seed 0 --out benchmarks/results/synthetic_world.json
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import torch.nn.functional as F
import typer
from numpy.typing import NDArray
from torch import Tensor, nn

from fusmae.data.index import SPLITS, Pair, Split
from fusmae.data.pixels import stack_bands
from fusmae.evaluation.metrics import average_precisions, score
from fusmae.files import write_json
from fusmae.modalities import BandStatistics, modality_inputs
from fusmae.models.encoder import Encoder
from fusmae.models.heads import pool
from fusmae.models.preprocess import Preprocess
from fusmae.provenance import git_state
from fusmae.sources.bigearthnet.bands import MODALITIES, PATCH_M
from fusmae.sources.synthetic.classes import COVERS
from fusmae.sources.synthetic.source import SyntheticSource

REGULARISATION = (0.001, 0.01, 0.1, 1.0, 10.0)
RESAMPLES = 500
BATCH = 64
_GROUPS = {"neighbourhood": "water", "shape": "water"}
"""Contrasts whose classes are rivals of one another too."""


@dataclass(frozen=True)
class Data:
    """The world in memory.

    Attributes:
        tiles: standardised with the training split's moments, `[N, C, H, W]` float16 by modality.
        means: of each band in physical units, `[N, C]`.
        stds: likewise.
        labels: `[N, K]` 0 or 1.
        split: of each pair.
        scene: number of each pair's scene: pairs of one are alike, so intervals are over scenes.
        is_flagged: whether the pair is under cloud or snow.
    """

    tiles: dict[str, Tensor]
    means: NDArray[np.float32]
    stds: NDArray[np.float32]
    labels: NDArray[np.int64]
    split: NDArray[np.str_]
    scene: NDArray[np.int64]
    is_flagged: NDArray[np.bool_]

    def rows(self, split: str) -> NDArray[np.int64]:
        """Rows of a split."""
        return np.flatnonzero(self.split == split)


def load(source: SyntheticSource, raw: Path) -> Data:
    """Read every pair of the world."""
    pairs = source.pairs(raw)
    inputs = modality_inputs(MODALITIES, PATCH_M)
    arrays: dict[str, list[NDArray[Any]]] = {item.name: [] for item in inputs}
    for pair in pairs:
        bands = source.read(raw, pair)
        for item in inputs:
            arrays[item.name].append(stack_bands(pair.key, bands, item))
    stacked = {name: np.stack(found) for name, found in arrays.items()}
    split = np.array([pair.split for pair in pairs])
    moments = [
        (values.mean(axis=(2, 3), dtype=np.float64), values.std(axis=(2, 3), dtype=np.float64))
        for values in stacked.values()
    ]
    return Data(
        tiles=_tiles(stacked, split == "train"),
        means=np.concatenate([mean for mean, _ in moments], axis=1).astype(np.float32),
        stds=np.concatenate([std for _, std in moments], axis=1).astype(np.float32),
        labels=np.array([[name in pair.labels for name in source.classes] for pair in pairs]).astype(np.int64),
        split=split,
        scene=np.unique([_scene(pair) for pair in pairs], return_inverse=True)[1],
        is_flagged=np.array([pair.is_cloudy or pair.is_snowy for pair in pairs]),
    )


def _scene(pair: Pair) -> str:
    return pair.key.rsplit("_", 2)[0]


def _tiles(stacked: dict[str, NDArray[Any]], is_train: NDArray[np.bool_]) -> dict[str, Tensor]:
    """By the model's own preprocessing."""
    inputs = modality_inputs(MODALITIES, PATCH_M)
    statistics: dict[str, dict[str, BandStatistics]] = {key: {} for key in MODALITIES}
    for item in inputs:
        train = stacked[item.name][is_train]
        for channel, band in enumerate(item.bands):
            mean, std = (float(moment(train[:, channel], dtype=np.float64)) for moment in (np.mean, np.std))
            statistics[item.modality][band] = BandStatistics(mean=mean, std=std)
    preprocess = Preprocess(inputs, statistics)
    parts: dict[str, list[Tensor]] = {key: [] for key in MODALITIES}
    for start in range(0, len(is_train), 256):
        batch = {
            name: torch.from_numpy(values[start : start + 256].astype(np.float32)) for name, values in stacked.items()
        }
        for key, tiles in preprocess(batch).items():
            parts[key].append(tiles.half())
    return {key: torch.cat(found) for key, found in parts.items()}


class Network(nn.Module):
    """A small convolutional network; its features are means and maxima over the tile."""

    def __init__(self, in_chans: int, num_classes: int) -> None:
        super().__init__()
        widths = (
            (in_chans, 24, 5, 2),
            (24, 48, 3, 2),
            (48, 64, 3, 1),
            (64, 96, 3, 2),
            (96, 128, 3, 1),
            (128, 128, 3, 1),
        )
        layers: list[nn.Module] = []
        for before, after, kernel, stride in widths:
            layers += [
                nn.Conv2d(before, after, kernel, stride, kernel // 2, bias=False),
                nn.BatchNorm2d(after),
                nn.ReLU(inplace=True),
            ]
        self.layers = nn.Sequential(*layers)
        self.head = nn.Linear(2 * widths[-1][1], num_classes)

    def features(self, tiles: Tensor) -> Tensor:
        """Tiles `[B, C, H, W]` to `[B, D]`."""
        found = self.layers(tiles)
        return torch.cat([found.mean(dim=(2, 3)), found.amax(dim=(2, 3))], dim=1)

    def forward(self, tiles: Tensor) -> Tensor:
        """Tiles `[B, C, H, W]` to logits `[B, K]`."""
        logits: Tensor = self.head(self.features(tiles))
        return logits


def rivals_not_told_apart(data: Data, classes: tuple[str, ...]) -> NDArray[np.float64]:
    """What knowing every group of rivals, and nothing within a group, is worth on the test split."""
    groups = np.array([_GROUPS.get(COVERS[name].contrast, COVERS[name].contrast) for name in classes])
    labels = data.labels[data.rows("test")]
    return np.stack([labels[:, groups == group].any(axis=1) for group in groups], axis=1).astype(np.float64)


def logistic_regression(data: Data, features: NDArray[Any]) -> NDArray[np.float64]:
    """Probabilities of the test split; how strongly to regularise is chosen on the validation split."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.preprocessing import StandardScaler

    rows = {split: data.rows(split) for split in SPLITS}
    scaler = StandardScaler().fit(features[rows["train"]])
    scaled = {split: scaler.transform(features[at]) for split, at in rows.items()}
    best, chosen = -1.0, np.zeros(0)
    for strength in REGULARISATION:
        found: dict[Split, list[NDArray[Any]]] = {"validation": [], "test": []}
        for column in range(data.labels.shape[1]):
            model = LogisticRegression(C=strength, max_iter=1000)
            model.fit(scaled["train"], data.labels[rows["train"], column])
            for split, columns in found.items():
                columns.append(model.predict_proba(scaled[split])[:, 1])
        probabilities = {split: np.stack(columns, axis=1) for split, columns in found.items()}
        macro = average_precisions(data.labels[rows["validation"]], probabilities["validation"])[1]
        if macro > best:
            best, chosen = macro, probabilities["test"]
    return chosen


@torch.no_grad()
def untrained_network(data: Data, seed: int) -> NDArray[Any]:
    """Features `[N, D]` of the convolutional network as it is born; batch norm has seen the training split."""
    torch.manual_seed(seed)
    network = Network(sum(tiles.shape[1] for tiles in data.tiles.values()), 1)
    train = data.rows("train")
    for start in range(0, len(train), BATCH):
        network(_batch(data, train[start : start + BATCH], tuple(data.tiles)))
    network.eval()
    return _by_batch(data, lambda rows: network.features(_batch(data, rows, tuple(data.tiles))))


@torch.no_grad()
def untrained_encoder(data: Data, seed: int) -> NDArray[Any]:
    """Features `[N, D]` of a Fus-MAE encoder as it is born: the mean of its tokens."""
    torch.manual_seed(seed)
    in_chans = {key: tiles.shape[1] for key, tiles in data.tiles.items()}
    encoder = Encoder(
        in_chans=in_chans, tile_px=120, patch_px=12, dim=192, depth=4, num_heads=4, early_fusion=True
    ).eval()

    def features(rows: NDArray[np.int64]) -> Tensor:
        return pool(encoder({key: tiles[rows].float() for key, tiles in data.tiles.items()}), "mean", tuple(in_chans))

    return _by_batch(data, features)


def trained_network(data: Data, modalities: tuple[str, ...], epochs: int, seed: int) -> NDArray[np.float64]:
    """Probabilities of the test split from a network trained with labels; nothing is chosen on any split."""
    torch.manual_seed(seed)
    random = np.random.default_rng(seed)
    network = Network(sum(data.tiles[key].shape[1] for key in modalities), data.labels.shape[1])
    network = network.to(memory_format=torch.channels_last)
    train = data.rows("train")
    steps = epochs * (len(train) // BATCH)
    optimizer = torch.optim.AdamW(network.parameters(), lr=3e-3, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=3e-3, total_steps=steps, pct_start=0.2)
    for _ in range(epochs):
        order = random.permutation(train)
        for start in range(0, len(order) - BATCH + 1, BATCH):
            rows = order[start : start + BATCH]
            tiles = torch.rot90(_batch(data, rows, modalities), int(random.integers(4)), (2, 3))
            if random.random() < 0.5:
                tiles = tiles.flip(3)
            logits = network(tiles.contiguous(memory_format=torch.channels_last))
            loss = F.binary_cross_entropy_with_logits(logits, torch.from_numpy(data.labels[rows]).float())
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
    network.eval()
    with torch.no_grad():
        test = data.rows("test")
        parts = [network(_batch(data, test[at : at + BATCH], modalities)) for at in range(0, len(test), BATCH)]
    return np.asarray(torch.cat(parts).sigmoid().double().numpy())


def _batch(data: Data, rows: NDArray[np.int64], modalities: tuple[str, ...]) -> Tensor:
    # Far outliers (bright walls, clouds) would otherwise rule the small network's first steps.
    return torch.cat([data.tiles[key][rows].float() for key in modalities], dim=1).clamp(-5, 5)


def _by_batch(data: Data, features: Callable[[NDArray[np.int64]], Tensor]) -> NDArray[Any]:
    rows = np.arange(len(data.labels))
    return torch.cat([features(rows[at : at + BATCH]) for at in range(0, len(rows), BATCH)]).numpy()


def report(data: Data, classes: tuple[str, ...], probabilities: NDArray[np.float64]) -> dict[str, Any]:
    """Scores of the test split, with a 95 % interval of macro AP over scenes."""
    test = data.rows("test")
    labels, scene = data.labels[test], data.scene[test]
    scores = score(labels, probabilities, classes, 0.5, 0, 0)
    random = np.random.default_rng(0)
    members = [np.flatnonzero(scene == number) for number in np.unique(scene)]
    drawn = []
    for _ in range(RESAMPLES):
        rows = np.concatenate([members[at] for at in random.integers(len(members), size=len(members))])
        drawn.append(average_precisions(labels[rows], probabilities[rows])[1])
    return {
        "macro_ap": scores.macro_ap,
        "macro_ap_interval": [float(np.quantile(drawn, 0.025)), float(np.quantile(drawn, 0.975))],
        "micro_ap": scores.micro_ap,
        "macro_f1": scores.macro_f1,
        "per_class_ap": scores.per_class_ap,
        "macro_ap_by_contrast": _by_contrast(scores.per_class_ap),
    }


def _by_contrast(per_class: dict[str, float]) -> dict[str, float]:
    found: dict[str, list[float]] = {}
    for name, value in per_class.items():
        found.setdefault(COVERS[name].contrast, []).append(value)
    return {contrast: float(np.mean(values)) for contrast, values in found.items()}


def main(
    pairs: Annotated[int, typer.Option(help="size of the world")] = 4096,
    seed: Annotated[int, typer.Option(help="of the world and of the networks")] = 0,
    epochs: Annotated[int, typer.Option(help="of the trained networks")] = 30,
    threads: Annotated[int, typer.Option(help="torch's")] = 2,
    raw: Annotated[Path, typer.Option(help="where the world is made, or is already")] = Path("data/synthetic_world"),
    out: Annotated[Path, typer.Option(help="the JSON")] = Path("benchmarks/results/synthetic_world.json"),
) -> None:
    """Print and write the table."""
    torch.set_num_threads(threads)
    source = SyntheticSource(pairs, seed)
    source.fetch(raw.parent, raw)
    data = load(source, raw)
    both = tuple(MODALITIES)
    rows: dict[str, Callable[[], NDArray[np.float64]]] = {
        "chance": lambda: np.tile(data.labels[data.rows("train")].mean(axis=0), (len(data.rows("test")), 1)),
        "rivals not told apart": lambda: rivals_not_told_apart(data, source.classes),
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
        table[name] = report(data, source.classes, predict()) | {"seconds": round(time.perf_counter() - start, 1)}
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
            "git": git_state(),
            "rows": table,
        },
    )


if __name__ == "__main__":
    typer.run(main)
