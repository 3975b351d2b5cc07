"""One modality of a pair, read from one GeoTIFF of several bands."""

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray
from rasterio.errors import RasterioError
from rasterio.warp import transform

from fusmae.errors import Fault, InputError, PairError
from fusmae.modalities import ModalityInput, Units, tile_side_m
from fusmae.rasters.geometry import box_of, is_turned, lon_lat, measures_metres, north_up, utm_code
from fusmae.rasters.raster_file import data_bands, read_bands, require_possible, scaled, statement_of

_MAX_SHIFT_M = 1.0
_M_PER_DEGREE = 111_195.0
# Relative difference of two pixel sides below which they count as equal.
_MAX_PIXEL_ERROR = 0.01


@dataclass(frozen=True)
class Raster:
    """A GeoTIFF's pixels and their place."""

    path: Path  # path of the file, for errors
    # Values `[C, h, w]`, from north to south and from west to east: in the file's own type, or in the modality's units
    # where the file states a scale.
    pixels: NDArray[Any]
    names: tuple[str, ...]  # description of each band, as the file states it; "" where it states none
    crs: Any  # coordinate reference system, as rasterio's object
    bounds: tuple[float, float, float, float]  # left, bottom, right, top in units of `crs`
    nodata: NDArray[np.bool_] | None = None  # flags `[C, h, w]` of pixels without data; None where there are none
    scale: str = ""  # scale and offset that the file states, as text, and that were applied; "" where it states none
    transform: Any = None  # affine transform of the file's rows and columns; None for a file that is surely north up

    @property
    def ground(self) -> str:
        """CRS, bounds and path as text, for error messages."""
        left, bottom, right, top = self.bounds
        return f"{self.crs} from ({left:.10g}, {bottom:.10g}) to ({right:.10g}, {top:.10g}) in {self.path}"

    @property
    def filled(self) -> NDArray[Any]:
        """Pixels with NaN in decimal bands without data, and 0 in all bands of whole numbers where one has no data."""
        if self.nodata is None:
            return self.pixels
        empty, where = (np.nan, self.nodata) if self.pixels.dtype.kind == "f" else (0, self.nodata.any(axis=0))
        return np.where(where, self.pixels.dtype.type(empty), self.pixels)

    @property
    def centre(self) -> tuple[float, float]:
        """The point in the middle, in units of `crs`."""
        left, bottom, right, top = self.bounds
        return (left + right) / 2, (bottom + top) / 2


@contextmanager
def opened(path: Path) -> Iterator[Any]:
    """Open one of many rasters of a folder for reading; yields rasterio's dataset."""
    # Without this option GDAL lists the whole folder each time it opens one of its files. A mask or metadata file
    # beside a raster is still found, by its name.
    with rasterio.Env(GDAL_DISABLE_READDIR_ON_OPEN="TRUE"), rasterio.open(path, driver="GTiff") as dataset:
        yield dataset


def read_raster(
    path: Path,
    key: str,
    *,
    hint: str,
    bands: Sequence[int] | None = None,
    units: Units | None = None,
    is_linear: bool = False,
) -> Raster:
    """Read bands of a georeferenced file, and the metadata that the file states.

    `bands` are numbers counted from 1, None for all except alpha. `units` are None for maps, whose numbers are of no
    modality. Backscatter that `is_linear` is not compared with the levels of dB. Errors name the pair by its key;
    `hint` advises the user where the file is absent or damaged.

    Raises:
        PairError: the file is absent, cannot be read, has no georeference, or states a scale that can't be right.
    """
    if not path.is_file():
        raise PairError("incomplete", f"Pair {key} lacks a file: {path} is absent.", hint=hint)
    try:
        with opened(path) as dataset:
            _require_georeference(key, path, dataset, hint)
            chosen = tuple(bands or data_bands(dataset))
            names = tuple((dataset.descriptions[index - 1] or "").strip() for index in chosen)
            crs, bounds, transform = dataset.crs, box_of(dataset), dataset.transform
            statement = statement_of(path, dataset, units, chosen)
            found = read_bands(dataset, statement)
            if units is not None and not is_linear:
                require_possible(path, [found], units)
    except RasterioError as error:
        # The message of rasterio's error only refers to the GDAL error that it wraps.
        reason = error.__cause__ or error
        raise PairError("unreadable", f"Pair {key}: {path} cannot be read: {reason}", hint=hint) from error
    except InputError as error:
        raise PairError("units", f"Pair {key}: {error}") from error
    nodata = found.is_nodata
    if nodata is not None:
        nodata = north_up(nodata, transform)
    pixels = scaled(found.stored, statement, units) if statement.is_scaled else found.stored
    return Raster(path, north_up(pixels, transform), names, crs, bounds, nodata, statement.text, transform)


def _require_georeference(key: str, path: Path, dataset: Any, hint: str) -> None:
    if dataset.crs is not None and not dataset.transform.is_identity:
        return
    points, _ = dataset.gcps
    if points:
        hint = f"terrain-correct it in SNAP, or `gdalwarp -t_srs EPSG:… {path} NEW`, and cut tiles anew"
    raise PairError(
        "georeference",
        f"Pair {key}: {path} has no georeference.",
        got=f"CRS {dataset.crs}, {len(points)} ground control points",
        expected="a CRS and a transform",
        hint=hint,
    )


def require_ground(key: str, raster: Raster, inputs: Sequence[ModalityInput]) -> None:
    """Refuse a file that is not a tile: rotated, not in metres, of another side length or of another pixel size.

    `inputs` are the arrays of the file's modality that a tile consists of.

    Raises:
        PairError: the file is not a tile; the error states the command that cuts it again.
    """
    fault: Fault = "georeference"
    got = _fault_of_place(raster)
    tile_m = tile_side_m(inputs)
    if not got:
        (left, bottom, right, top), (height, width) = raster.bounds, raster.pixels.shape[1:]
        width_m, height_m = right - left, top - bottom
        pixel = width_m / width, height_m / height
        is_square = abs(pixel[0] / pixel[1] - 1) < _MAX_PIXEL_ERROR
        if is_square and all(abs(side - tile_m) < _MAX_SHIFT_M for side in (width_m, height_m)):
            return
        fault, got = "grid", f"{width_m:g} x {height_m:g} m, pixels of {pixel[0]:g} x {pixel[1]:g} m"
    gsds_m = {item.gsd_m for item in inputs if set(item.bands) & set(raster.names)}
    gsd_m = gsds_m.pop() if len(gsds_m) == 1 else None
    pixels = f" with pixels of {gsd_m} m" if gsd_m else ""
    raise PairError(
        fault,
        f"Pair {key}: {raster.path} is no tile.",
        got=got,
        expected=f"{tile_m} x {tile_m} m (data.tile_m){pixels}, north up, in metres",
        hint=_cut_anew(raster, tile_m, gsd_m),
    )


def _fault_of_place(raster: Raster) -> str:
    """Describe what is wrong with a file's CRS or transform; "" where nothing is wrong."""
    turn = raster.transform
    if turn is not None and is_turned(turn):
        angle = math.degrees(math.atan2(turn.d, turn.a))
        return f"rows that are turned by {angle:.3g}° in {raster.crs.to_string()}"
    if raster.crs.is_geographic:
        return f"degrees: {raster.ground}"
    if not _is_metric(raster):
        return f"units of {raster.crs.to_string()}, which are no metres on the ground there"
    return ""


def _is_metric(raster: Raster) -> bool:
    (x, y), step = raster.centre, 1000.0
    found = lon_lat(raster.crs, [x, x + step, x], [y, y, y + step])
    # The units of a local grid can't be measured: it is taken to be in metres.
    return found is None or measures_metres(*found, step)


def _cut_anew(raster: Raster, tile_m: int, gsd_m: int | None) -> str:
    """Return the command that cuts a correct tile, with the same bounds for each file of a pair."""
    x, y = raster.centre
    place = lon_lat(raster.crs, [x], [y])
    advice = "cut each file of the pair anew from its scene, with its own pixels"
    if place is None:
        return advice
    epsg = raster.crs.to_epsg()
    code = epsg if epsg and not raster.crs.is_geographic and _is_metric(raster) else utm_code(place[0][0], place[1][0])
    (x,), (y,) = transform("EPSG:4326", f"EPSG:{code}", *place)
    left, bottom, pixel = round(x) - tile_m // 2, round(y) - tile_m // 2, gsd_m or "GSD"
    return (
        f"{advice}: gdalwarp -t_srs EPSG:{code} -te {left} {bottom} {left + tile_m} {bottom + tile_m} "
        f"-tr {pixel} {pixel} -r bilinear -overwrite SCENE {raster.path}"
    )


def is_same_ground(raster: Raster, other: Raster) -> bool:
    """Return whether two rasters have the same CRS, and bounds that are less than a metre apart."""
    max_shift = _MAX_SHIFT_M / (_M_PER_DEGREE if other.crs.is_geographic else 1.0)
    is_near = all(abs(a - b) < max_shift for a, b in zip(raster.bounds, other.bounds, strict=True))
    return bool(raster.crs == other.crs and is_near)


def check_same_ground(key: str, rasters: Mapping[str, Raster], *, hint: str = "") -> None:
    """Refuse rasters of one pair, by a readable name, whose bounds differ by more than a metre, or in their CRS.

    Raises:
        PairError: two rasters don't cover the same ground.
    """
    (first_name, first), *others = rasters.items()
    for name, other in others:
        if not is_same_ground(other, first):
            raise PairError(
                "georeference",
                f"Pair {key}: {name} and {first_name} don't cover the same ground.",
                got=f"{name}: {other.ground}",
                expected=f"{first_name}: {first.ground}",
                hint=hint,
            )


def require_pixels(
    key: str, name: str, pixels: NDArray[Any], shape: tuple[int, ...], dtype: Any, *, units: str = "", hint: str = ""
) -> None:
    """Refuse a band or map of another size or type, such as whole numbers, which are rounded dB or dB times a factor.

    Errors name the band, map or file by `name`. The numbers of a map have no `units`.

    Raises:
        PairError: the size or type differs; the fault of another type is "units", or "grid" for a map.
    """
    if pixels.shape != shape or pixels.dtype != dtype:
        raise PairError(
            "units" if units and pixels.shape == shape else "grid",
            f"Pair {key}: {name} has another size or type.",
            got=f"{pixels.dtype} {list(pixels.shape)}",
            expected=f"{np.dtype(dtype)} {list(shape)}" + (f" in {units}" if units else ""),
            hint=hint,
        )
