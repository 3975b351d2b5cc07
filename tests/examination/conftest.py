from collections.abc import Callable, Sequence
from pathlib import Path
from shutil import rmtree
from typing import Any

import numpy as np
import pytest

from fusmae.config.task import Task
from fusmae.data.index import Pair
from fusmae.data.shard_writer import write_shards
from fusmae.examination.check import Check
from fusmae.examination.examine import Diagnosis, examine_data
from fusmae.modalities import ModalityInput
from fusmae.sources.shared.source import Facts

REPOSITORY = Path(__file__).parents[2]

Bands = dict[str, np.ndarray]
ReadPair = Callable[[Pair], Bands]
Diagnose = Callable[..., Diagnosis]
Ask = Callable[..., Check]
Changed = Callable[..., ReadPair]


@pytest.fixture
def diagnose(
    tmp_path: Path, pairs: list[Pair], read_pair: ReadPair, inputs: tuple[ModalityInput, ...], classes: Sequence[str]
) -> Diagnose:
    """Shards some pairs (`sharded`) and examines them against an index; both are the tiny dataset's by default."""

    def run(
        *,
        sharded: Sequence[Pair] = pairs,
        index: Sequence[Pair] | None = None,
        read: ReadPair = read_pair,
        columns: Sequence[str] = classes,
        facts: Facts = Facts(),  # noqa: B008 — frozen
        tolerated: dict[str, int] | None = None,
    ) -> Diagnosis:
        folder = tmp_path / "shards"
        # Finished shards of the same pairs would be kept, whatever the reader gives now.
        rmtree(folder, ignore_errors=True)
        write_shards(sharded, read, folder, inputs=inputs, task=Task(classes=tuple(columns)), shard_pairs=7)
        return examine_data(
            sharded if index is None else index, Task(classes=classes), facts, shards=folder, tolerated=tolerated or {}
        )

    return run


@pytest.fixture
def ask(diagnose: Diagnose) -> Ask:
    """One check's answer; the rest as for `diagnose`."""

    def run(name: str, **settings: Any) -> Check:
        return next(check for check in diagnose(**settings).checks if check.name == name)

    return run


@pytest.fixture
def changed(read_pair: ReadPair) -> Changed:
    """A reader whose bands are changed by a function of all bands, for some pairs."""

    def make(change: Callable[[Bands], Bands], only: Callable[[Pair], bool] = lambda _: True) -> ReadPair:
        def read(pair: Pair) -> Bands:
            bands = read_pair(pair)
            return {**bands, **change(bands)} if only(pair) else bands

        return read

    return make
