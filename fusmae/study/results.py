"""The files of a study's cell: one variant and seed, measured in every way that the study asks for.

A cell is a folder:

    fusmae-0/
    ├── cell.json        rows with scores and bootstrap draws, cost, evidence, training curves, provenance
    ├── predictions.npz  `labels` of tiles [N, K]; by row name (`probe/0.1/s1+s2`) probabilities [N, K] float16, or
    │                    values [N, 1]; by `confusion/<row name>` a [K, K] count matrix, rows true, columns predicted
    └── pictures/        PNGs, with their content and location on Earth in pictures.json
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from fusmae.config.task import Kind
from fusmae.errors import StudyError
from fusmae.files import write_json, written_whole

CELL, PREDICTIONS, PICTURES = "cell.json", "predictions.npz", "pictures"

HEADLINE: Mapping[Kind, str] = {
    "multilabel": "macro_ap",
    "multiclass": "accuracy",
    "segmentation": "miou",
    "regression": "r2",
}
"""Name of the score by which rows of a kind are compared, and which is bootstrapped."""

FOCUS = "focus_ap"
"""Name of the score of the classes in focus: the mean of their APs."""


@dataclass(frozen=True)
class Row:
    """One way of using an encoder, measured over the whole test set."""

    protocol: str  # name of the protocol: knn, probe, finetune or segment
    share: float  # share of the training labels, 0..1
    condition: str  # input of the encoder: `s1+s2`, `s1`, `s2`, `s1+clouded s2`
    kind: Kind  # kind of prediction
    scores: Mapping[str, float]  # scores by name, those of the kind's scorer in `fusmae.evaluation.scorers`
    per_class: Mapping[str, float]  # AP, recall or IoU of each class that the test set has; empty for a value
    # Headline score on resamples of the test places; all rows of a study have the same resamples, so that the
    # difference of two rows' draws is a paired bootstrap.
    draws: Sequence[float]
    focus_draws: Sequence[float] = ()  # score of the classes in focus on the same resamples; empty where no classes are

    @property
    def name(self) -> str:
        """The row's name, such as `probe/0.1/s1+s2`."""
        return f"{self.protocol}/{self.share:g}/{self.condition}"

    @property
    def headline(self) -> float:
        """The score by which the row is compared."""
        return self.scores[HEADLINE[self.kind]]

    @property
    def in_focus(self) -> "Row | None":
        """The same use of the encoder, scored on the classes in focus alone; None where there are none."""
        if not self.focus_draws:
            return None
        return replace(self, scores={HEADLINE[self.kind]: self.scores[FOCUS]}, draws=self.focus_draws, focus_draws=())


@dataclass(frozen=True)
class Cell:
    """One variant and one seed."""

    variant: str  # name of the variant in the study
    seed: int  # random seed of weights, order, masks and label subsets
    about: str  # description of the variant in one sentence
    rows: Sequence[Row]  # measured rows
    # `parameters` of the encoder, `pretrain_seconds`, `pretrain_epochs`, `pairs_per_second` of pretraining.
    cost: Mapping[str, float]
    # Mean squared error on removed patches of test, in the units of the model's targets, by modality `{"model", "band
    # mean", "nearest"}`; empty where the variant reconstructs nothing.
    reconstruction: Mapping[str, Mapping[str, float]]
    # Retrieval scores by direction (`s1 → s2`) `{"recall@1", "recall@5", "chance@1", "chance@5", "candidates"}`; empty
    # where the variant has one modality.
    retrieval: Mapping[str, Mapping[str, float]]
    # Training curves: points (epoch, value) by name (`train/loss`, `validation/knn`).
    history: Mapping[str, Sequence[tuple[float, float]]]
    # `run` and `pretrain_run` (ids of MLflow runs), `commit`, `is_dirty`, `data` (hash of the shards), `device`,
    # `warning` (for synthetic data), `test_places` (number of places per draw; absent in older cells).
    origin: Mapping[str, Any]
    classes: Sequence[str]  # names of the classes, in the order of a label vector; empty for a value
    # Names of the land-cover maps' classes, in their order; empty where the data has no maps.
    map_classes: Sequence[str]
    value: str = ""  # name and unit of the value that is predicted; "" for classes

    @property
    def name(self) -> str:
        """The cell's name, such as `fusmae-0`."""
        return f"{self.variant}-{self.seed}"


@dataclass(frozen=True)
class Picture:
    """One picture of a cell's gallery."""

    file: str  # name of the file in the folder of pictures
    kind: Literal["reconstruction", "failure"]  # kind of picture: a reconstruction, or a tile that the model got wrong
    key: str  # key of the pair
    caption: str  # text that describes the picture
    # Longitude of the tile's centre in degrees (WGS 84); None where the source does not state it.
    lon: float | None = None
    lat: float | None = None  # latitude of the tile's centre, likewise


@dataclass(frozen=True)
class Found:
    """A cell in its folder, to write or read back."""

    cell: Cell  # the cell's numbers
    labels: NDArray[Any]  # label vectors `[N, K]` of test, or values `[N, 1]`
    predictions: Mapping[str, NDArray[Any]]  # probabilities `[N, K]` or values `[N, 1]` by row name; none of maps
    confusions: Mapping[str, NDArray[Any]]  # confusion counts `[K, K]` by row name
    pictures: Sequence[Picture]  # pictures of the cell's gallery
    folder: Path  # path of the cell's folder


def write_cell(found: Found) -> None:
    """Write a cell's numbers and the list of its pictures, which the caller writes."""
    found.folder.mkdir(parents=True, exist_ok=True)
    # A value may be of any size; probabilities are not.
    label, prediction = (np.float32, np.float32) if found.cell.value else (np.uint8, np.float16)
    arrays: dict[str, NDArray[Any]] = {"labels": found.labels.astype(label)}
    arrays |= {name: predicted.astype(prediction) for name, predicted in found.predictions.items()}
    arrays |= {f"confusion/{name}": counts.astype(np.int64) for name, counts in found.confusions.items()}
    with written_whole(found.folder / PREDICTIONS) as partial, partial.open("wb") as file:
        np.savez_compressed(file, allow_pickle=False, **arrays)
    write_json(found.folder / CELL, asdict(found.cell))
    write_json(found.folder / PICTURES / "pictures.json", [asdict(picture) for picture in found.pictures])


def read_cell(folder: Path) -> Found:
    """Read a cell.

    Raises:
        StudyError: the folder is not a cell, or is a damaged one.
    """
    try:
        values = json.loads((folder / CELL).read_text(encoding="utf-8"))
        cell = Cell(**{**values, "rows": [Row(**row) for row in values["rows"]]})
        with np.load(folder / PREDICTIONS, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in archive.files}
        pictures = json.loads((folder / PICTURES / "pictures.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise StudyError(f"{folder} is no cell of a study, or a damaged one: {error}", hint="make study") from error
    return Found(
        cell,
        arrays.pop("labels"),
        {name: found for name, found in arrays.items() if not name.startswith("confusion/")},
        {name.removeprefix("confusion/"): found for name, found in arrays.items() if name.startswith("confusion/")},
        [Picture(**picture) for picture in pictures],
        folder,
    )
