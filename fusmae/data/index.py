"""The index: every pair of a dataset with its labels, split and place, as one parquet file."""

from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, get_args

from fusmae.config.task import Task
from fusmae.errors import Fault, PairError, SourceError, first_three
from fusmae.files import written_whole

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = get_args(Split)


@dataclass(frozen=True, slots=True)
class Pair:
    """The tiles of one place and date, one per modality."""

    key: str  # unique name of the pair
    files: Mapping[str, str]  # location of each modality's tile, in a form that only the source interprets
    labels: tuple[str, ...]  # class names, spelled as in the class table; empty where only maps have them
    split: Split  # name of the split: train, validation or test
    place: str  # name of the place; tiles of one place are never in two splits
    date: datetime  # acquisition time (UTC); that of the optical tile where there is one
    country: str = ""  # name of the country as the source gives it, or ""
    is_snowy: bool = False  # whether the source reports seasonal snow
    is_cloudy: bool = False  # whether the source reports cloud or cloud shadow
    lon: float | None = None  # longitude of the tile's centre in degrees (WGS 84); None where the source has none
    lat: float | None = None  # latitude, likewise
    value: float | None = None  # number of a regression per tile, in its unit; None where there is none

    @property
    def acquisition(self) -> tuple[datetime, Hashable]:
        """Key of the scene that the tile was cut from, estimated: one date within about a degree of lon and lat.

        Where the tile has no position, the key is its date and place.
        """
        if self.lon is None or self.lat is None:
            return self.date, self.place
        return self.date, (round(self.lon), round(self.lat))


def validate_index(pairs: Sequence[Pair], task: Task) -> None:
    """Refuse an index that training must not see.

    Raises:
        PairError: a key appears twice, a pair has no files, or its labels are not those of the task.
        SourceError: a place is in two splits, or a split is empty.
    """
    times = Counter(pair.key for pair in pairs)
    twice = [key for key, number in times.items() if number > 1]
    bare = [pair.key for pair in pairs if not pair.files]
    classes = task.classes
    stray = [pair.key for pair in pairs if not set(pair.labels) <= set(classes)]
    strange = sorted({name for pair in pairs for name in pair.labels} - set(classes))
    faults: list[tuple[list[str], Fault, str, object]] = [
        *_faults_of_kind(pairs, task),
        (twice, "labels", "stand in the index more than once", "each key once"),
        (bare, "incomplete", "have no file of any modality", "a file per modality"),
        (stray, "labels", f"have labels outside the class table: {strange}", list(classes)),
    ]
    for keys, fault, problem, expected in faults:
        if keys:
            text = f"{len(keys):,} of {len(times):,} pairs {problem}."
            raise PairError(fault, text, got=first_three(keys), expected=expected)
    if leaking := leaking_places(pairs):
        raise SourceError(
            f"{len(leaking)} places are in more than one split.",
            got=first_three([f"{place}: {' and '.join(splits)}" for place, splits in sorted(leaking.items())]),
            expected="one split per place",
            hint="move each place whole to its most held-out split (test, validation, train) in the raw table",
        )
    empty = [split for split in SPLITS if all(pair.split != split for pair in pairs)]
    if empty:
        raise SourceError(
            f"The index has no pair in {', '.join(empty)}.", expected=f"pairs in each of {', '.join(SPLITS)}"
        )


def _faults_of_kind(pairs: Sequence[Pair], task: Task) -> Iterator[tuple[list[str], Fault, str, object]]:
    """Pairs whose labels a kind does not have, as `validate_index` lists them."""
    if task.kind == "multiclass" and any(pair.labels for pair in pairs):
        # Without any labels there is still something to pretrain on; some pairs without would be taken for a class.
        wrong = [pair for pair in pairs if len(pair.labels) != 1]
        got = f" (the first has {list(wrong[0].labels)})" if wrong else ""
        yield [pair.key for pair in wrong], "labels", f"don't have one class{got}", "one class per pair: data.kind"
        names = {name for pair in pairs if pair.split == "train" for name in pair.labels}
        alone = [pair.key for pair in pairs if pair.split == "train"] if len(names) == 1 else []
        yield alone, "labels", f"are all of train and have one class, {''.join(names)}", "two classes or more in train"
    if task.value is not None and not task.is_dense and any(pair.value is not None for pair in pairs):
        bare = [pair.key for pair in pairs if pair.value is None]
        yield bare, "labels", f"have no {task.value.name}", "a number for every pair"
        numbers = {pair.value for pair in pairs if pair.split == "train"}
        alone = [pair.key for pair in pairs if pair.split == "train"] if len(numbers) == 1 else []
        yield alone, "labels", f"are all of train and have one {task.value.name}, {numbers}", "numbers that differ"


def leaking_places(pairs: Iterable[Pair]) -> dict[str, list[Split]]:
    """The places that are in more than one split, with their splits in alphabetical order."""
    splits: dict[str, set[Split]] = defaultdict(set)
    for pair in pairs:
        splits[pair.place].add(pair.split)
    return {place: sorted(found) for place, found in splits.items() if len(found) > 1}


def write_index(pairs: Iterable[Pair], path: Path) -> None:
    """Write pairs in the order of their keys, and files in that of their modalities: equal pairs give equal bytes."""
    import pandas as pd

    ordered = sorted(pairs, key=lambda pair: pair.key)
    frame = pd.DataFrame([asdict(pair) | {"files": dict(sorted(pair.files.items()))} for pair in ordered])
    with written_whole(path) as partial:
        frame.to_parquet(partial, index=False)


def read_index(path: Path) -> list[Pair]:
    """Read an index that `write_index` wrote.

    Raises:
        SourceError: the file is absent, or was written before pairs had files by modality.
    """
    import pandas as pd

    if not path.exists():
        raise SourceError(f"There is no index at {path}.", hint="dvc repro index")
    frame = pd.read_parquet(path)
    if "files" not in frame:
        raise SourceError(
            f"The index at {path} was written by an older version.",
            got=list(frame),
            expected="a column `files`, with the files of each pair by modality",
            hint="dvc repro index",
        )
    # Where only some pairs have a number, pandas reads the missing ones as NaN: make them None again.
    columns = [name for name in ("lon", "lat", "value") if name in frame]  # older tables have no values
    numbers = frame[columns]
    frame[columns] = numbers.astype(object).where(numbers.notna(), None)
    rows: Iterable[Any] = frame.itertuples(index=False)
    return [
        Pair(
            **row._asdict()
            | {
                # A modality that only other pairs have is None in the table.
                "files": {name: file for name, file in row.files.items() if file is not None},
                "labels": tuple(row.labels),
                "date": row.date.to_pydatetime(),
            }
        )
        for row in rows
    ]
