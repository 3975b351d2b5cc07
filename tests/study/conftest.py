"""Made-up cells of a study, in the format of `fusmae.study.results` and with scores as a real one might have.

And tiny shards with maps, and what is made from them: for tests of how cells come to be.
"""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from fusmae.config.params import Config, parse_config
from fusmae.config.task import Task, Value
from fusmae.data.datamodule import Draws, PairDataModule
from fusmae.data.index import Pair, write_index
from fusmae.data.pixels import NO_CLASS
from fusmae.data.shard_writer import Maps, write_shards
from fusmae.data.shards import Origin, ShardReader
from fusmae.data.statistics import measure_statistics, read_statistics, write_statistics
from fusmae.data.verdict import write_verdict
from fusmae.evaluation.features import CheckpointEncoder
from fusmae.models.preprocess import Preprocessing
from fusmae.study.measure.cell import write_measured
from fusmae.study.measure.measurement import Measurement, Opened
from fusmae.study.results import Cell, Found, Picture, Row, read_cell, write_cell
from fusmae.study.variants import study_of, variant_config, variant_of
from fusmae.training.checkpoint import Checkpoint
from fusmae.training.reconstruction import start_pretraining

CLASSES = ("water", "forest", "town & <industry>", "ice")
WARNING = "SYNTHETIC data: made-up pixels, no evidence about the real world."
ABOUT = {
    "fusmae": "early and feature fusion by cross-attention",
    "random": "the same network, not pretrained",
    "joint": "joint tokens, no cross-attention",
    "s1-only": "radar alone",
    "s2-only": "optical alone",
}
# How much better than chance each is with all labels, and what it loses with a hundredth of them.
_SKILL = {"fusmae": 0.42, "random": 0.33, "joint": 0.415, "s1-only": 0.20, "s2-only": 0.38}
_LOSS = {"fusmae": 0.10, "random": 0.20, "joint": 0.11, "s1-only": 0.12, "s2-only": 0.13}
_PENALTY = {"s1+s2": 0.0, "s1": 0.21, "s2": 0.05, "s1+clouded s2": 0.12}
_PROTOCOLS = {"knn": ((1.0,), -0.05), "probe": ((0.01, 0.1, 1.0), 0.0), "finetune": ((0.01, 0.1, 1.0), 0.03)}


def fake_study(
    folder: Path,
    *,
    seeds: int = 2,
    draws: int = 80,
    pairs: int = 40,
    classes: Sequence[str] = CLASSES,
    pictures: int = 3,
    warning: str = WARNING,
) -> list[Found]:
    """Write cells of every variant and read them back."""
    found = []
    for variant in ABOUT:
        for seed in range(seeds):
            cell_folder = folder / f"{variant}-{seed}"
            drawn = _draw_pictures(cell_folder / "pictures", pictures) if (variant, seed) == ("fusmae", 0) else []
            _write(cell_folder, variant, seed, draws, pairs, classes, warning, drawn)
            found.append(read_cell(cell_folder))
    return found


def _write(folder, variant, seed, draws, pairs, classes, warning, pictures):
    random = np.random.default_rng([seed, *variant.encode()])
    # The draws of all cells come from the same resamples: what these do to the score is shared.
    shared = np.random.default_rng(0).normal(0, 0.012, draws)
    labels = np.random.default_rng(1).random((pairs, len(classes))) < np.linspace(0.5, 0.1, len(classes))
    labels[0] = True
    rows, predictions = [], {}
    for protocol, (shares, gain) in _PROTOCOLS.items():
        for share in shares:
            for condition, penalty in _PENALTY.items():
                if variant == "random" and protocol == "finetune" and condition != "s1+s2":
                    continue
                score = 0.4 + _SKILL[variant] + gain + _LOSS[variant] * np.log10(share) / 2
                score += random.normal(0, 0.008) - penalty * (variant not in ("s1-only", "s2-only"))
                row = _row(protocol, share, condition, score, shared, classes, random)
                rows.append(row)
                noise = random.normal(0, 1.6 - score, labels.shape)
                predictions[row.name] = 1 / (1 + np.exp(-2.5 * (labels - 0.5 + noise)))
    cell = _cell(variant, seed, rows, classes, warning, random)
    write_cell(Found(cell, labels, predictions, {}, pictures, folder))


def _row(protocol, share, condition, score, shared, classes, random):
    names = ("macro_ap", "micro_ap", "macro_f1", "micro_f1")
    scores = {name: float(score + step) for name, step in zip(names, (0, 0.06, -0.08, -0.01), strict=True)}
    per_class = {name: float(np.clip(score + random.normal(0, 0.15), 0, 1)) for name in classes}
    draws = score + shared + random.normal(0, 0.006, len(shared))
    return Row(protocol, share, condition, "multilabel", scores, per_class, draws.tolist())


def _cell(variant, seed, rows, classes, warning, random):
    is_pretrained, has_both = variant != "random", variant in ("fusmae", "joint")
    modalities = {"s1-only": ["s1"], "s2-only": ["s2"]}.get(variant, ["s1", "s2"]) if is_pretrained else []
    epochs = np.arange(1, 31)
    loss = {"fusmae": 1.37, "joint": 1.42}.get(variant, 1.5)
    history = {
        "train/loss": [(int(e), float(loss + 0.6 / e + random.normal(0, 0.004))) for e in epochs],
        "validation/knn": [(int(e), float(_SKILL[variant] + 0.3 - 0.2 / e + random.normal(0, 0.004))) for e in epochs],
    }
    return Cell(
        variant,
        seed,
        ABOUT[variant],
        rows,
        {
            "parameters": 21_600_000.0 if variant != "joint" else 20_100_000.0,
            "pretrain_seconds": 1432.0 + 20 * seed if is_pretrained else 0.0,
            "pretrain_epochs": 30.0 if is_pretrained else 0.0,
            **({"pairs_per_second": 812.0 + seed} if is_pretrained else {}),
        },
        {name: {"model": 0.61 + 0.01 * seed, "band mean": 1.0, "nearest": 0.58} for name in modalities},
        {
            way: {"recall@1": 0.21, "recall@5": 0.46, "chance@1": 0.002, "chance@5": 0.01, "candidates": 500}
            for way in (("s1 → s2", "s2 → s1") if has_both else ())
        },
        history if is_pretrained else {},
        {
            "run": f"{seed:02d}c0ffee{variant}",
            "commit": "3f2a9c1d",
            "is_dirty": variant == "joint",
            "data": "9b1d44ae.dir",
            "device": "NVIDIA H100",
            "warning": warning,
        },
        list(classes),
        [],
    )


def _draw_pictures(folder, count):
    listed = []
    folder.mkdir(parents=True)
    for kind in ("reconstruction", "failure"):
        for at in range(count):
            name = f"{kind}-{at}.png"
            pixels = np.random.default_rng(at).integers(0, 255, (12, 18, 3), np.uint8)
            Image.fromarray(pixels).resize((540, 360), Image.Resampling.BICUBIC).save(folder / name)
            where = (16.1234 + at, 48.5) if at % 3 != 2 else (None, None)
            caption = "true, masked and predicted" if kind == "reconstruction" else "said town, is forest"
            listed.append(Picture(name, kind, f"S2A_MSIL2A_2017_{at:02d}_33UUP", caption, *where))
    return listed


@pytest.fixture(scope="session")
def cells(tmp_path_factory):
    """Two seeds of five variants; not to be written to."""
    return fake_study(tmp_path_factory.mktemp("cells"))


TINY_CLASSES = ("water", "forest", "town", "ice")
CONF = Path(__file__).parents[2] / "conf"
# All that is there to test, in 24 px tiles of 9 patches, by a network of two blocks.
TINY = (
    "data.tile_m=240", "data.shard_pairs=7", "runtime.accelerator=cpu", "evaluate.batch_size=4",
    "model.patch_px=8", "model.dim=16", "model.depth=2", "model.num_heads=2",
    "model.decoder_dim=16", "model.decoder_depth=1", "model.decoder_num_heads=2",
    "pretrain.epochs=2", "pretrain.batch_size=8", "pretrain.warmup_epochs=0", "pretrain.evidence_pairs=8",
    "study.focus=null", "study.shares=[0.2, 1.0]", "study.neighbours=3", "study.num_pictures=2",
    "study.bootstrap_resamples=20",
    "study.finetune={steps: 6, batch_size: 4, learning_rate: 1.0e-3}",
    "study.segment={steps: 6, batch_size: 4, learning_rate: 1.0e-2}",
)  # fmt: skip

# Of a variant that was not pretrained.
HISTORY = {"points": {}, "seconds": 0.0, "pairs": 0, "run_id": "r"}

Compose = Callable[..., dict[str, Any]]


def compose_study(*overrides: str, folder: Path) -> dict[str, Any]:
    """What DVC makes of conf/study.yaml and of `-S` with each override."""
    from dvc.utils.hydra import compose_and_dump

    out = folder / "params.yaml"
    compose_and_dump(out, str(CONF), None, "study", str(folder), list(overrides))
    return yaml.safe_load(out.read_text(encoding="utf-8"))


@pytest.fixture(scope="session")
def compose(tmp_path_factory: pytest.TempPathFactory) -> Compose:
    """Composes a study's parameters; overrides may be given."""
    folder = tmp_path_factory.mktemp("composed")
    return lambda *overrides: compose_study(*overrides, folder=folder)


@pytest.fixture(scope="session")
def tiny_config(compose: Compose) -> Callable[..., Config]:
    """Makes the configuration of a study that the tiny shards and a CPU are enough for."""
    return lambda *overrides: parse_config(compose(*TINY, *overrides), where="test")


@pytest.fixture
def _one_thread() -> Iterator[None]:
    """Sums on several threads may round differently from run to run."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    with torch.random.fork_rng():
        yield
    torch.set_num_threads(before)


@dataclasses.dataclass(frozen=True)
class Tiny:
    """The tiny dataset with every band of the study's and with maps, as stage `data` leaves it.

    Attributes:
        folder: with shards, index.parquet, statistics.json, verdict.json.
        config: of a study on it.
        pairs: by key.
    """

    folder: Path
    config: Config
    pairs: dict[str, Pair]

    @property
    def shards(self) -> Path:
        return self.folder / "shards"

    def data(self, batch_size: int = 4, names: Sequence[str] = ("s1", "s2"), *, with_maps: bool = False):
        """Every split."""
        draws = Draws(self.config.seed, tuple(names), self.config.model.num_patches(self.config.data.tile_px))
        return PairDataModule(self.shards, batch_size=batch_size, draws=draws, with_maps=with_maps)

    def untrained(self, variant: str = "fusmae", seed: int = 1) -> Checkpoint:
        """A variant's initial weights."""
        own, inputs = variant_config(self.config, variant, seed), ShardReader(self.shards, "train").inputs
        preprocessing = Preprocessing(
            inputs=tuple(item for item in inputs if item.modality in own.data.modalities),
            statistics=read_statistics(self.folder / "statistics.json"),
            is_stacked=variant_of(self.config, variant).is_stacked,
        )
        return start_pretraining(own.model, preprocessing, own.pretrain, seed)[1]


def tiny_map(pair: Pair) -> np.ndarray:
    random = np.random.default_rng(list(pair.key.encode()))
    return random.choice([0, 1, NO_CLASS], (24, 24)).astype(np.uint8)


def tiny_values(pair: Pair) -> np.ndarray:
    """A map of values whose mean differs from pair to pair, with a hole."""
    random = np.random.default_rng(list(pair.key.encode()))
    values = random.normal(random.uniform(50, 150), 10, (24, 24)).astype(np.float32)
    values[:3, :3] = np.nan
    return values


# Labels of each kind: the task, what changes in a pair, and its maps.
_BIOMASS = {"name": "biomass", "unit": "t/ha"}
TINY_KINDS: dict[str, tuple[Task, Callable[[Pair], dict[str, Any]], Maps | None]] = {
    "multilabel": (Task(classes=TINY_CLASSES), lambda pair: {}, Maps(TINY_CLASSES, tiny_map)),
    "multiclass": (
        Task(kind="multiclass", classes=TINY_CLASSES),
        lambda pair: {"labels": pair.labels[:1]},
        Maps(TINY_CLASSES, tiny_map),
    ),
    "segmentation": (
        Task(kind="segmentation", classes=TINY_CLASSES),
        lambda pair: {"labels": ()},
        Maps(TINY_CLASSES, tiny_map),
    ),
    "value": (
        Task(kind="regression", value=Value(**_BIOMASS)),
        lambda pair: {"labels": (), "value": float(np.nanmean(tiny_values(pair)))},
        None,
    ),
    "value_map": (
        Task(kind="regression", value=Value(per="pixel", **_BIOMASS)),
        lambda pair: {"labels": ()},
        Maps((), tiny_values),
    ),
}


@pytest.fixture(scope="session")
def tiny_of(tmp_path_factory: pytest.TempPathFactory, pairs: list[Pair], tiny_config) -> Callable[[str], Tiny]:
    """Makes the tiny dataset with labels of a kind, once; test pairs 0 and 1 are of one acquisition.

    To be read, never changed. The others each are of an acquisition of its own.
    """
    return cache(lambda kind: _make_tiny(tmp_path_factory.mktemp(f"study-{kind}"), pairs, tiny_config(), kind))


def _make_tiny(folder: Path, pairs: list[Pair], config: Config, kind: str) -> Tiny:
    task, changes, maps = TINY_KINDS[kind]
    placed = [
        dataclasses.replace(
            pair, lon=10.0 + number, lat=50.0, date=datetime(2017, 6, 1 + number, tzinfo=UTC), **changes(pair)
        )
        for number, pair in enumerate(pairs)
    ]
    first, second = (at for at, pair in enumerate(placed) if pair.key in ("test00", "test01"))
    placed[second] = dataclasses.replace(placed[second], lon=placed[first].lon, date=placed[first].date)

    def read(pair: Pair) -> dict[str, np.ndarray]:
        random, bands = np.random.default_rng(list(pair.key.encode())), {}
        for item in config.data.inputs:
            for band in item.bands:
                shape = (item.side_px, item.side_px)
                is_radar = item.units == "dB"
                bands[band] = (
                    random.normal(-14, 4, shape).astype(np.float32)
                    if is_radar
                    else random.integers(200, 3000, shape).astype(np.uint16)
                )
        return bands

    origin = Origin("made up", "none", is_synthetic=True)
    settings = {"inputs": config.data.inputs, "task": task, "shard_pairs": 7, "origin": origin}
    write_shards(placed, read, folder / "shards", maps=maps, **settings)
    write_index(placed, folder / "index.parquet")
    write_statistics(folder / "statistics.json", measure_statistics(folder / "shards"))
    write_verdict(folder / "verdict.json", folder / "shards")
    return Tiny(folder, config, {pair.key: pair for pair in placed})


@pytest.fixture(scope="session")
def tiny(tiny_of) -> Tiny:
    """With several labels per tile, and maps."""
    return tiny_of("multilabel")


@pytest.fixture(scope="session")
def measured(tiny_of, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], list[Found]]:
    """Makes the cells of two variants with initial weights, measured in every way on the tiny data of a kind, once."""
    return cache(lambda kind: measure_cells(tiny_of(kind), tmp_path_factory.mktemp(f"measured-{kind}")))


def measure_cells(tiny: Tiny, folder: Path) -> list[Found]:
    study = study_of(tiny.config).model_copy(update={"shares": [1.0], "num_pictures": 1})
    found = []
    for variant in ("fusmae", "s1-only"):
        own, checkpoint = variant_config(tiny.config, variant, 1), tiny.untrained(variant)
        opened = Opened(
            f"{variant} as initialised", CheckpointEncoder(checkpoint, "mean"), checkpoint, False, False, HISTORY
        )
        data = tiny.data(names=tuple(own.data.modalities))
        torch.manual_seed(1)
        measurement = Measurement(
            study,
            own.finetune,
            own.runtime,
            opened,
            seed=1,
            data=data,
            pairs=tiny.pairs,
            resume_folder=folder / "resume" / variant,
        )
        measurement.add_heads(measurement.features())
        measurement.add_trained()
        facts = {"git": {"commit": "c", "is_dirty": False}, "inputs": {str(data.shards): "sha256:0"}}
        run = SimpleNamespace(run_id="r", facts=facts)
        write_measured(folder / f"{variant}-1", variant, measurement, {}, own.data, run)
        found.append(read_cell(folder / f"{variant}-1"))
    return found
