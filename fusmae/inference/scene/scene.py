"""One modality's scene, of files or of a STAC item: its bands, where it lies, and what its pixels mean."""

import re
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from itertools import chain
from pathlib import Path
from typing import Any

from fusmae.errors import InputError
from fusmae.inference.scene.bands import FoundBands, find_bands, raster
from fusmae.inference.scene.stac_assets import ItemAsset, item_offset
from fusmae.inference.scene.stac_item import SceneItem
from fusmae.modalities import ModalityInput, Units
from fusmae.rasters.geometry import Box, box_of
from fusmae.rasters.s1_units import S1Units
from fusmae.rasters.s2_offset import StatedOffset
from fusmae.units import UNITS

# A date with a time, as in products' names, or a day alone. A day that `T` and a digit follow is not a day alone.
_DATE_AND_TIME = re.compile(r"(?<!\d)20\d\d([-_]?)\d\d\1\d\dT\d\d[-_:]?\d\d[-_:]?\d\d(?!\d)", re.I)
_DAY = re.compile(r"(?<!\d)20\d\d([-_]?)\d\d\1\d\d(?!\d|T\d)", re.I)
_PRODUCT = re.compile(r"S[12][A-D]?_|.*\.SAFE$", re.I)
_FIRST_IMAGE = datetime(2014, 4, 3, tzinfo=UTC)


@dataclass(frozen=True)
class Reading:
    """How to interpret a scene's files where they don't state it themselves."""

    # Names of all bands in the order of the files; None to use the names that the files state.
    bands: tuple[str, ...] | None = None
    # Units of S1 pixels; power and amplitude are converted to dB. None for what a STAC item states, else dB.
    units: S1Units | None = None
    # Number to subtract from every S2 digital number: 1000 from processing baseline 04.00 on; None to subtract what a
    # STAC item states, else nothing, after a check that the scene holds no offset.
    offset: int | None = None


@dataclass(frozen=True)
class Scene(FoundBands):
    """A scene whose files were opened once and hold what the model needs."""

    reading: Reading  # how to interpret the pixels
    transform: Any  # affine transform of the finest band
    boxes: tuple[tuple[Any, Box], ...]  # CRS and box of each file that is used, the finest band's first
    # Left, bottom, right and top in degrees of what is wanted of the scene; None for all of it.
    bbox: Box | None = field(default=None, kw_only=True)
    # Offset that the scene's STAC item states; None where it states none, and for scenes of files.
    stated_offset: StatedOffset | None = field(default=None, kw_only=True)

    @property
    def crs(self) -> Any:
        """CRS of the finest band."""
        return self.boxes[0][0]

    @property
    def units(self) -> S1Units:
        """Units of S1 pixels."""
        return self.reading.units or "dB"

    @property
    def files(self) -> tuple[Path | ItemAsset, ...]:
        """The rasters that are used, each once: paths, or assets of a STAC item."""
        return tuple(dict.fromkeys(band.path for band in self.bands.values()))

    @property
    def local_files(self) -> tuple[Path, ...]:
        """Those of `files` that are paths: all or none."""
        return tuple(path for path in self.files if isinstance(path, Path))


def open_scenes(
    inputs: Sequence[ModalityInput],
    paths: Mapping[str, Sequence[str | Path | SceneItem]],
    readings: Mapping[str, Reading],
    bbox: Box | None = None,
    groups: Collection[str] = (),
) -> dict[str, Scene]:
    """Find the bands of each scene, by modality, and where it lies.

    A scene is given as files, folders and archives, or as one STAC item: a file, an address, or an item that a search
    found. `bbox` is the part that is wanted of all scenes: left, bottom, right and top in degrees. `groups` are names
    of the inputs that a scene may lack, while it has others of the modality (`Session.groups`).

    Raises:
        InputError: there is no scene at all, the model does not take a modality, a reading is of an absent modality or
            of another quantity, bands are missing, pixels are complex, or files have no georeference.
    """
    given = {modality: files for modality, files in paths.items() if files}
    known = list(dict.fromkeys(item.modality for item in inputs))
    unknown = [modality for modality in given if modality not in known]
    if unknown or not given:
        raise InputError(
            f"The model takes no {unknown[0]}." if unknown else "There is no scene.",
            got=", ".join(given) or None,
            expected=f"one or more of {', '.join(f'--scene {modality}=PATH' for modality in known)}",
        )
    if unused := [modality for modality in readings if modality not in given]:
        raise InputError(
            f"Options say how to read {unused[0]}, but no {unused[0]} scene is given.",
            expected=f"options for {', '.join(given)}",
            hint=f"add --scene {unused[0]}=PATH, or leave out its bands, units and offset",
        )
    for item in inputs:
        reading = readings.get(item.modality, Reading())
        for option, quantity, is_given in (
            ("units", "backscatter", reading.units not in (None, "dB")),
            ("offset", "reflectance", reading.offset is not None),
        ):
            if is_given and item.unit.quantity != quantity:
                raise InputError(
                    f"--{option} is for {quantity}, which {item.modality} is not.",
                    got=f"{item.modality} in {item.unit.noun}",
                    hint=f"leave out --{option} for {item.modality}",
                )
    return {
        modality: replace(
            _open(modality, inputs, given[modality], readings.get(modality, Reading()), groups), bbox=bbox
        )
        for modality in known
        if modality in given
    }


def require_real(name: object, dataset: Any) -> None:
    """Raise InputError for complex pixels, of which a reader would use only the real part."""
    if any(kind.startswith("complex") for kind in dataset.dtypes):
        raise InputError(
            f"{name} has complex pixels: amplitude and phase, no backscatter.",
            got=f"{', '.join(dict.fromkeys(dataset.dtypes))}, as in an SLC product",
            expected="real numbers: sigma0",
            hint="start from the GRD product, or calibrate, detect and terrain-correct it in SNAP",
        )


def richest_first(scenes: Mapping[str, Scene]) -> list[Scene]:
    """Return the scenes, that with the most bands first; of scenes with as many, the last one by name."""
    return sorted(scenes.values(), key=lambda scene: (len(scene.bands), scene.modality), reverse=True)


def scene_date(scenes: Mapping[str, Scene]) -> datetime | None:
    """When the scenes were taken, by a STAC item, else by the names of files and folders; None if no name holds a date.

    The scene with the most bands comes first. The nearest name counts: the file's, its folder's, then those of the
    product that it belongs to. An impossible date (June 31st, second 60) is skipped. For a name with a day alone, the
    result is that day's midnight.
    """
    items = [scene.item for scene in richest_first(scenes) if scene.item is not None]
    if dated := next((item.taken for item in items if item.taken), None):
        return dated
    for file in chain.from_iterable(scene.local_files for scene in richest_first(scenes)):
        folder, *above = reversed(file.absolute().parts[:-1])
        # Other folders above may hold another date, such as that of an archive or of a run.
        for name in (file.name, folder, *filter(_PRODUCT.match, above)):
            for match in chain(_DATE_AND_TIME.finditer(name), _DAY.finditer(name)):
                digits = "".join(filter(str.isdigit, match[0])).ljust(14, "0")
                with suppress(ValueError):
                    found = datetime.strptime(digits, "%Y%m%d%H%M%S").replace(tzinfo=UTC)
                    if found >= _FIRST_IMAGE:
                        return found
    return None


def _open(
    modality: str,
    inputs: Sequence[ModalityInput],
    paths: Sequence[str | Path | SceneItem],
    reading: Reading,
    groups: Collection[str],
) -> Scene:
    wanted = {band: item.gsd_m for item in inputs if item.modality == modality for band in item.bands}
    optional = [item.bands for item in inputs if item.modality == modality and item.name in groups]
    found = find_bands(modality, paths, wanted, reading.bands, reading.units, optional)
    finest = min(found.bands, key=lambda name: (wanted[name], found.bands[name].pixel))
    boxes, transforms, has_offset = [], [], False
    units = next(item.units for item in inputs if item.modality == modality)
    quantity = UNITS[units].quantity
    stated = None
    if found.item is not None and quantity == "reflectance":
        found, stated = _with_offset_apart(found, found.item, units, reading)
    for path in dict.fromkeys([found.bands[finest].path, *(band.path for band in found.bands.values())]):
        with raster(path) as dataset:
            require_real(path, dataset)
            _require_georeference(path, dataset)
            boxes.append((dataset.crs, box_of(dataset)))
            transforms.append(dataset.transform)
            has_offset |= any(dataset.offsets)
    if found.item is not None:
        if has_offset and stated:
            stated = StatedOffset(0, "an offset that the files state, and that is taken off,")
        if reading.offset is None and stated is not None:
            reading = replace(reading, offset=stated.offset)
        if reading.units is None and quantity == "backscatter":
            reading = replace(reading, units=_stated_units(found))
    return Scene(**vars(found), reading=reading, transform=transforms[0], boxes=tuple(boxes), stated_offset=stated)


def _with_offset_apart(
    found: FoundBands, item: SceneItem, units: Units, reading: Reading
) -> tuple[FoundBands, StatedOffset | None]:
    """The bands without the offset that an item states of reflectance, and this offset.

    It is taken off as if `--offset` had said it, so that the checks see the pixels with it and can tell whether the
    item is right.
    """
    assets = {name: (band, band.path) for name, band in found.bands.items() if isinstance(band.path, ItemAsset)}
    # What an option says counts, also where an item contradicts itself.
    of_bands = [asset.band(band.index) for band, asset in assets.values()]
    stated = item_offset(item, found.modality, of_bands, units) if reading.offset is None else None
    apart = {name: replace(band, path=asset.without_offsets()) for name, (band, asset) in assets.items()}
    return replace(found, bands=apart), stated


def _stated_units(found: FoundBands) -> S1Units | None:
    said = {band.stated_units for band in found.bands.values()} - {None}
    if len(said) > 1:
        bands = ", ".join(f"{name} {band.stated_units}" for name, band in found.bands.items())
        raise InputError(
            f"The {found.modality} item states several units.", got=bands, expected="one", hint="--units says which"
        )
    return said.pop() if said else None


def _require_georeference(path: Path | ItemAsset, dataset: Any) -> None:
    if dataset.crs is not None and not dataset.transform.is_identity:
        return
    points, _ = dataset.gcps
    raise InputError(
        f"{path} has no georeference.",
        got=f"CRS {dataset.crs}, {'the unit' if dataset.transform.is_identity else 'a'} transform"
        + (f", {len(points)} ground control points" if points else ""),
        expected="a CRS and an affine transform",
        hint="terrain-correct it first, in SNAP or with `gdalwarp`"
        if points
        else f"if you know them: `rio edit-info {path} --crs EPSG:32633 --transform …`",
    )
