"""A map of a scene by a registered model."""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from fusmae.commands.reading import Given
from fusmae.errors import InputError
from fusmae.inference.map.predict import Map, Model, predict_map
from fusmae.inference.session import Session
from fusmae.release.registry.model_file import model_file

_MOST_NAMED = 5


def predict(
    *,
    model: str,
    given: Given,
    out: Path,
    stride: int | None,
    date: datetime | None,
    is_checked: bool,
) -> str:
    """Write the map; gives a summary for people.

    Raises:
        RegistryError: there is no such model.
        ExportError: its file is no graph of ours.
        InputError: scenes that can't be used.
        StorageError: the disk is full.
    """
    if out.suffix.lower() not in (".tif", ".tiff") or out.is_dir():
        raise InputError("A map is a GeoTIFF.", got=f"--out {out}", expected="a file name that ends in .tif")
    found = model_file(model)
    session = Session(found.path)
    made = predict_map(
        Model(session, found.label, found.sha256),
        given.paths,
        out,
        readings=given.readings,
        stride_m=stride,
        is_checked=is_checked,
        taken=date.replace(tzinfo=date.tzinfo or UTC) if date else None,
    )
    return _summary(made, session.metadata["classes"])


def _summary(made: Map, classes: Sequence[str]) -> str:
    rows, columns = made.grid.shape
    known = int(made.counts[1:].sum())
    order = sorted(range(len(classes)), key=lambda number: -made.counts[number + 1])[:_MOST_NAMED]
    shares = [f"{made.counts[n + 1] / known:6.1%}  {classes[n]}" for n in order if made.counts[n + 1]] if known else []
    lines = [
        f"{made.num_tiles:,} tiles of {made.grid.tile_m} m, one every {made.grid.stride_m} m; "
        f"{rows} x {columns} pixels of {made.grid.cell_m} m, {made.counts[0]:,} without data",
        *shares,
        *made.nodata,
        *(f"wrote {path}" for path in made.files),
    ]
    return "\n".join(lines)
