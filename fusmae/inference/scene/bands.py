"""Finds the file, and the band in it, that holds each band of a scene, by the bands' names."""

import shlex
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import rasterio
from rasterio.errors import RasterioError

from fusmae.errors import InputError
from fusmae.inference.scene.files import scene_files, stored_in
from fusmae.inference.scene.stac_assets import ItemAsset, contradiction, item_assets
from fusmae.inference.scene.stac_item import SceneItem, scene_item
from fusmae.rasters.band_names import names_in, needed_bands, other_modality
from fusmae.rasters.raster_file import data_bands
from fusmae.rasters.s1_units import S1Units, stated_units

UNNEEDED = "other"
"""Name, in options and hints, of a band that the model does not take."""

_BLANK = "?"
_MOST_SHOWN = 20


@dataclass(frozen=True)
class BandFile:
    """One band of a scene."""

    path: Path | ItemAsset  # path of the file, or the asset of a STAC item
    index: int  # number of the band in the file, from 1
    pixel: float  # side of a pixel in units of the file's own CRS
    stated_units: S1Units | None = None  # units that the band's name, its tags or the file's name state
    names: tuple[str, ...] = ()  # product names that it may have; one if it is known
    texts: tuple[str, ...] = ()  # its description and tags, or the file's name, by which it is recognised

    @property
    def place(self) -> str:
        """File and number, such as `coastal.tif[1]`."""
        return f"{self.path.name}[{self.index}]"


@dataclass(frozen=True)
class FoundBands:
    """Bands of a scene."""

    modality: str  # name of the modality
    bands: dict[str, BandFile]  # files of all bands that the model takes, by band name
    # A name for every band, in the order of the files and of the bands in them, as `--bands` takes them; `other` for a
    # band that the model does not take.
    order: tuple[str, ...]
    names: frozenset[str]  # product names of bands that the files state, whether the model takes them or not
    overruled: tuple[str, ...]  # bands that the files name differently, as `coastal.tif[1], B01, as B02`
    item: SceneItem | None = field(default=None, kw_only=True)  # STAC item of the scene; None for one of files


def find_bands(
    modality: str,
    paths: Sequence[str | Path | SceneItem],
    wanted: Mapping[str, int],
    given: Sequence[str] | None = None,
    units: S1Units | None = None,
    optional: Sequence[Sequence[str]] = (),
) -> FoundBands:
    """Find the bands of a scene, which is given as files, folders and archives, or as one STAC item.

    A band is recognised by its description, else by its tags, else (in a file of one band) by the file's name:
    `T33UUP_20170613T101031_B02.tif`. `B2` and `blue` are `B02`. If several files hold a band, the one whose pixel size
    is nearest to the model's is used, and among files in several units the one in the given units, or in dB if they
    are None: `Sigma0_VV_db`.

    `wanted` is the ground sampling distance in metres by band name, as the model takes it. `given` are names of all
    bands, in the order of the files and of the bands in them; they replace the files' names. `optional` are groups of
    bands that may all be missing.

    Raises:
        InputError: a file or an item is missing or can't be opened, or bands are missing or ambiguous.
    """
    item = scene_item(modality, paths)
    if item is not None:
        assets = item_assets(item, modality, wanted, optional)
        bands = [band for asset in assets for band in _bands_of(asset, modality, wanted, units)]
    else:
        files = [path for path in paths if not isinstance(path, SceneItem)]
        bands = [band for path in scene_files(modality, files) for band in _bands_in(modality, path, wanted)]
    overruled: list[str] = []
    if given is not None:
        _require_fitting(modality, bands, given)
        told = [names_in(modality, (name,), wanted) for name in given]
        overruled = [
            f"{band.place}, {'/'.join(band.names)}, as {'/'.join(names)}"
            for band, names in zip(bands, told, strict=True)
            if band.names and names and not set(band.names) & set(names)
        ]
        bands = [replace(band, names=names) for band, names in zip(bands, told, strict=True)]
    known = {band.names[0] for band in bands if len(band.names) == 1}
    needed = {name: wanted[name] for name in needed_bands(wanted, known, optional)}
    _require_all(modality, bands, needed)
    found = {name: _nearest(modality, name, gsd_m, bands, units or "dB") for name, gsd_m in needed.items()}
    names_of = {band: name for name, band in found.items()}
    return FoundBands(
        modality=modality,
        bands=found,
        order=tuple(names_of.get(band, UNNEEDED) for band in bands),
        names=frozenset(band.names[0] for band in bands if len(band.names) == 1),
        overruled=tuple(overruled),
        item=item,
    )


@contextmanager
def raster(path: Path | ItemAsset) -> Iterator[Any]:
    """Open a raster for reading; raises InputError if it does not exist or can't be read, now or while it is open."""
    try:
        with open_raster(path) as dataset:
            yield dataset
    except RasterioError as error:
        raise unreadable(path, error) from cause_of(path, error)


def open_raster(path: Path | ItemAsset) -> Any:
    """Open a raster for reading, until it is closed.

    Raises:
        InputError: it does not exist, is an asset that can't be opened, or contradicts its STAC item.
        rasterio.errors.RasterioError: it is a file that can't be opened.
    """
    if isinstance(path, ItemAsset):
        return path.open()
    if not stored_in(path).exists():
        raise InputError(f"There is no file {path}.", hint="check the paths of the scenes")
    return rasterio.open(path)


def cause_of(path: Path | ItemAsset, error: Exception) -> Exception | None:
    """The error to chain to `unreadable`; none for an asset, whose address GDAL writes out with its signature."""
    return None if isinstance(path, ItemAsset) else error


def unreadable(path: Path | ItemAsset, error: Exception) -> InputError:
    """The error for a raster that GDAL can't read."""
    if isinstance(path, ItemAsset):
        return path.unreadable(error)
    # rasterio's own text only points to the GDAL error that it wraps.
    return InputError(
        f"{path} can't be read: {error.__cause__ or error}",
        expected="a whole raster that GDAL can read",
        hint="it may be cut short or damaged: compare its size with the original's, and copy it again",
    )


def _bands_in(modality: str, path: Path, wanted: Collection[str]) -> list[BandFile]:
    with raster(path) as dataset:
        pixel = (abs(dataset.res[0]) + abs(dataset.res[1])) / 2
        found = []
        indexes = data_bands(dataset)
        for index in indexes:
            tags = tuple(dataset.tags(index).values())
            texts = (dataset.descriptions[index - 1] or "", *tags)
            names = names_in(modality, texts[:1], wanted) or names_in(modality, tags, wanted, synonyms=False)
            if not names and len(indexes) == 1:
                texts = (path.stem,)
                names = names_in(modality, texts, wanted)
            stated = stated_units((dataset.units[index - 1] or "", *texts))
            found.append(BandFile(path, index, pixel, stated, names, texts))
    if any(band.stated_units for band in found):
        return found
    # The names of the file and of its folder (the product) apply to all bands alike.
    stated = stated_units((path.stem,)) or stated_units((path.parent.name,))
    return [replace(band, stated_units=stated) for band in found]


def _bands_of(asset: ItemAsset, modality: str, wanted: Collection[str], units: S1Units | None) -> list[BandFile]:
    """The bands of an item's asset, as the item names them; what the file names too must agree."""
    found = []
    with raster(asset) as dataset:
        pixel = (abs(dataset.res[0]) + abs(dataset.res[1])) / 2
        for index in data_bands(dataset):
            stated = asset.band(index)
            description, unit = dataset.descriptions[index - 1] or "", dataset.units[index - 1] or ""
            named, in_file = names_in(modality, (description,), wanted), stated_units((unit, description))
            if named and stated.names and not set(named) & set(stated.names):
                raise contradiction(asset, f"band {index} {'/'.join(named)}", "/".join(stated.names))
            if units is None and in_file and stated.units and in_file != stated.units:
                choice = f"--units {modality}={in_file} or {modality}={stated.units} says which is right"
                raise contradiction(asset, in_file, stated.units, choice)
            found.append(BandFile(asset, index, pixel, stated.units or in_file, stated.names, (description,)))
    return found


def _require_fitting(modality: str, bands: Sequence[BandFile], given: Sequence[str]) -> None:
    if len(given) != len(bands):
        raise InputError(
            f"--bands {modality} does not fit the {modality} files.",
            got=f"{len(given)} names: {', '.join(given)}",
            expected=f"{len(bands)} names, one per band: {_described(bands)}",
            hint=_to_fill_in(modality, bands),
        )
    if blanks := [str(number) for number, name in enumerate(given, 1) if not name or _BLANK in name]:
        raise InputError(
            f"--bands {modality} has blanks.",
            got=f"no name at {', '.join(blanks)} of {', '.join(given)}",
            expected=f"a name for each band: {_described(bands)}",
            hint=f"put the band's name where the blank is, or `{UNNEEDED}` where the model does not need it",
        )


def _require_all(modality: str, bands: Sequence[BandFile], wanted: Mapping[str, int]) -> None:
    known = {band.names[0] for band in bands if len(band.names) == 1}
    missing = [name for name in wanted if name not in known]
    if not missing:
        return
    looks_like = other_modality(modality, [" ".join(band.texts) for band in bands])
    if looks_like and not known:
        raise InputError(
            f"The {modality} scene looks like {looks_like}.",
            got=_described(bands),
            expected=f"bands {', '.join(wanted)}",
            hint=f"give it as --scene {looks_like}=PATH",
        )
    hint = "bring the missing ones"
    if sum(len(band.names) != 1 for band in bands) >= len(missing):
        hint += f"; or name those without a name: {_to_fill_in(modality, bands)}"
    else:
        hint += ": there are fewer bands without a name than bands that are missing"
        hint += "" if known else "; if this is another sensor's file, give it with that sensor's option"
    raise InputError(
        f"The {modality} scene lacks {'bands' if len(missing) > 1 else 'band'} {', '.join(missing)}.",
        got=_described(bands),
        expected=f"bands {', '.join(wanted)}, named by description, by tag or by file name",
        hint=hint,
    )


def _nearest(modality: str, name: str, gsd_m: int, bands: Sequence[BandFile], units: S1Units) -> BandFile:
    # A pixel size in degrees is far from any in metres, but the order of the distances is still useful.
    named = [band for band in bands if band.names == (name,)]
    least = min(abs(band.pixel - gsd_m) for band in named)
    nearest = [band for band in named if abs(band.pixel - gsd_m) == least]
    if len(nearest) > 1:
        told = [band for band in nearest if band.stated_units == units]
        nearest = told or [band for band in nearest if band.stated_units is None] or nearest
    if len(nearest) > 1:
        is_one_file = len({band.path for band in nearest}) == 1
        raise InputError(
            f"{nearest[0].path} holds band {name} several times."
            if is_one_file
            else f"Several files hold band {name}.",
            got=", ".join(f"{band.path} band {band.index}" for band in nearest),
            expected="one",
            hint=("" if is_one_file else "give one scene at a time, file by file if its folder holds more; or ")
            + f"say which to use: {_to_fill_in(modality, bands, nearest)}",
        )
    return nearest[0]


def _to_fill_in(modality: str, bands: Sequence[BandFile], doubtful: Collection[BandFile] = ()) -> str:
    """The option that names bands in their order, with a blank for each unknown one.

    A shell accepts it as it is; this program refuses it until the blanks are filled in.
    """
    names = [band.names[0] if len(band.names) == 1 and band not in doubtful else _BLANK for band in bands]
    return (
        f"--bands {shlex.quote(modality + '=' + ','.join(names))}, each {_BLANK} replaced by the band's name, or by "
        f"`{UNNEEDED}` where the model shall not take it"
    )


def _described(bands: Sequence[BandFile]) -> str:
    shown = ", ".join(f"{band.place} {'/'.join(band.names) or _BLANK}" for band in bands[:_MOST_SHOWN])
    return shown + (f" and {len(bands) - _MOST_SHOWN} more" if len(bands) > _MOST_SHOWN else "")
