"""Ways to predict the classes of a synthetic world, from band means to networks trained with labels."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
import yaml
from numpy.typing import NDArray
from torch import Tensor, nn

from benchmarks.world_data import Data
from fusmae.data.index import SPLITS, Split
from fusmae.evaluation.metrics import average_precisions
from fusmae.models.architecture import Architecture
from fusmae.models.encoder import Encoder
from fusmae.models.heads import pool
from fusmae.sources.synthetic.landscape import COVERS

REGULARISATION = (0.001, 0.01, 0.1, 1.0, 10.0)
BATCH = 64
TINY = Path(__file__).parents[1] / "conf" / "model" / "tiny.yaml"
_GROUPS = {"neighbourhood": "water", "shape": "water"}
"""Contrasts whose classes also count as rivals of another contrast's classes."""


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
        """Features `[B, D]` of tiles `[B, C, H, W]`."""
        found = self.layers(tiles)
        return torch.cat([found.mean(dim=(2, 3)), found.amax(dim=(2, 3))], dim=1)

    def forward(self, tiles: Tensor) -> Tensor:
        """Logits `[B, K]` of tiles `[B, C, H, W]`."""
        logits: Tensor = self.head(self.features(tiles))
        return logits


def rivals_not_told_apart(data: Data, classes: tuple[str, ...]) -> NDArray[np.float64]:
    """Predictions `[N, K]` for the test split that know each group of rivals, but can't tell its classes apart."""
    groups = np.array([_GROUPS.get(COVERS[name].contrast, COVERS[name].contrast) for name in classes])
    labels = data.labels[data.rows("test")]
    return np.stack([labels[:, groups == group].any(axis=1) for group in groups], axis=1).astype(np.float64)


def logistic_regression(data: Data, features: NDArray[Any]) -> NDArray[np.float64]:
    """Probabilities `[N, K]` of the test split; the regularisation is chosen on the validation split."""
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
    """Features `[N, D]` of an untrained convolutional network with batch norm statistics of the training split."""
    torch.manual_seed(seed)
    network = Network(sum(tiles.shape[1] for tiles in data.tiles.values()), 1)
    train = data.rows("train")
    for start in range(0, len(train), BATCH):
        network(_batch(data, train[start : start + BATCH], tuple(data.tiles)))
    network.eval()
    return _by_batch(data, lambda rows: network.features(_batch(data, rows, tuple(data.tiles))))


@torch.no_grad()
def untrained_encoder(data: Data, seed: int) -> NDArray[Any]:
    """Features `[N, D]` of an untrained Fus-MAE encoder: the mean of its tokens."""
    torch.manual_seed(seed)
    groups = {key: (tiles.shape[1],) for key, tiles in data.tiles.items()}
    section = yaml.safe_load(TINY.read_text(encoding="utf-8")) | {"dim": 192}
    encoder = Encoder(Architecture(**section, tile_px=120, groups=groups)).eval()

    def features(rows: NDArray[np.int64]) -> Tensor:
        return pool(encoder({key: tiles[rows].float() for key, tiles in data.tiles.items()}), "mean", tuple(groups))

    return _by_batch(data, features)


def trained_network(data: Data, modalities: tuple[str, ...], epochs: int, seed: int) -> NDArray[np.float64]:
    """Probabilities `[N, K]` of the test split from a network trained with labels; nothing is tuned on any split."""
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
    # Otherwise far outliers (bright walls, clouds) would dominate the small network's first steps.
    return torch.cat([data.tiles[key][rows].float() for key in modalities], dim=1).clamp(-5, 5)


def _by_batch(data: Data, features: Callable[[NDArray[np.int64]], Tensor]) -> NDArray[Any]:
    rows = np.arange(len(data.labels))
    return torch.cat([features(rows[at : at + BATCH]) for at in range(0, len(rows), BATCH)]).numpy()
