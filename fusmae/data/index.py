"""The index: every pair of a dataset with its labels, split and place, as one parquet file."""

from collections import Counter, defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from datetime import datetime
from pathlib import Path
from typing import Literal, get_args

from fusmae.errors import PairError, SourceError

Split = Literal["train", "validation", "test"]
SPLITS: tuple[Split, ...] = get_args(Split)

_MAX_SHOWN = 3


@dataclass(frozen=True, slots=True)
class Pair:
    """The tiles of one place and date, one per modality.

    Attributes:
        key: unique name of the pair.
        files: location of each modality's tile, in a form that only the source interprets.
        labels: class names, spelled as in the class table.
        split: name of the split: train, validation or test.
        place: name of the place; tiles of one place are never in two splits.
        date: acquisition time (UTC); that of the optical tile where there is one.
        country: name of the country as the source gives it, or "".
        is_snowy: whether the source reports seasonal snow.
        is_cloudy: whether the source reports cloud or cloud shadow.
        lon: longitude of the tile's centre in degrees (WGS 84); None where the source has none.
        lat: latitude, likewise.
    """

    key: str
    files: Mapping[str, str]
    labels: tuple[str, ...]
    split: Split
    place: str
    date: datetime
    country: str = ""
    is_snowy: bool = False
    is_cloudy: bool = False
    lon: float | None = None
    lat: float | None = None

    @property
    def acquisition(self) -> tuple[datetime, Hashable]:
        """Key of the scene that the tile was cut from, estimated: one date within about a degree of lon and lat.

        Where the tile has no position, the key is its date and place.
        """
        if self.lon is None or self.lat is None:
            return self.date, self.place
        return self.date, (round(self.lon), round(self.lat))


def validate_index(pairs: Sequence[Pair], classes: Sequence[str]) -> None:
    """Refuse an index that training must not see.

    Raises:
        PairError: a key appears twice, a pair has no files, or a label is not in the class table.
        SourceError: a place is in two splits, or a split is empty.
    """
    times = Counter(pair.key for pair in pairs)
    if twice := [key for key, number in times.items() if number > 1]:
        raise PairError(
            "labels",
            f"{len(twice):,} of {len(times):,} pairs stand in the index more than once.",
            got=_shown(twice),
            expected="each key once",
        )
    if bare := [pair.key for pair in pairs if not pair.files]:
        raise PairError(
            "incomplete",
            f"{len(bare):,} of {len(times):,} pairs have no file of any modality.",
            got=_shown(bare),
            expected="a file per modality",
        )
    stray = {pair.key: set(pair.labels) - set(classes) for pair in pairs if not set(pair.labels) <= set(classes)}
    if stray:
        raise PairError(
            "labels",
            f"{len(stray):,} of {len(times):,} pairs have labels outside the class table: {_shown(list(stray))}.",
            got=sorted(set().union(*stray.values())),
            expected=list(classes),
        )
    places: dict[str, set[str]] = defaultdict(set)
    for pair in pairs:
        places[pair.place].add(pair.split)
    leaking = {place: sorted(splits) for place, splits in places.items() if len(splits) > 1}
    if leaking:
        first = dict(sorted(leaking.items())[:_MAX_SHOWN])
        raise SourceError(
            f"{len(leaking)} places are in more than one split.",
            got=f"{first}{' …' if len(leaking) > _MAX_SHOWN else ''}",
            expected="one split per place",
            hint="move each place whole to its most held-out split (test, validation, train) in the raw table",
        )
    empty = [split for split in SPLITS if all(pair.split != split for pair in pairs)]
    if empty:
        raise SourceError(
            f"The index has no pair in {', '.join(empty)}.", expected=f"pairs in each of {', '.join(SPLITS)}"
        )


def _shown(keys: Sequence[str]) -> str:
    return ", ".join(keys[:_MAX_SHOWN]) + (" …" if len(keys) > _MAX_SHOWN else "")


def write_index(pairs: Iterable[Pair], path: Path) -> None:
    """Write pairs in the order of their keys, and files in that of their modalities: equal pairs give equal bytes."""
    import pandas as pd

    from fusmae.files import written_whole

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
    # Where only some pairs have a position, pandas reads the missing ones as NaN: make them None again.
    positions = frame[["lon", "lat"]]
    frame[["lon", "lat"]] = positions.astype(object).where(positions.notna(), None)
    names = [field.name for field in fields(Pair)]
    return [
        Pair(
            **{
                **dict(zip(names, row, strict=True)),
                # A modality that only other pairs have is None in the table.
                "files": {name: file for name, file in row[names.index("files")].items() if file is not None},
                "labels": tuple(row[names.index("labels")]),
                "date": row[names.index("date")].to_pydatetime(),
            }
        )
        for row in frame[names].itertuples(index=False, name=None)
    ]
