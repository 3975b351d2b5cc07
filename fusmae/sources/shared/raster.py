"""One modality of a pair, read from one GeoTIFF of several bands."""

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fusmae.errors import Fault, InputError, PairError
from fusmae.modalities import ModalityInput, Units
from fusmae.rasters.geometry import box_of, is_turned, measures_metres, north_up, utm_code
from fusmae.rasters.raster_file import data_bands, read_bands, require_possible, scaled, statement_of

_MAX_SHIFT_M = 1.0
_M_PER_DEGREE = 111_195.0
# Relative difference of two pixel sides below which they count as equal.
_MAX_PIXEL_ERROR = 0.01


@dataclass(frozen=True)
class Raster:
    """A GeoTIFF's pixels and their place.

    Attributes:
        path: path of the file, for errors.
        pixels: values `[C, h, w]`, from north to south and from west to east; in the file's own type, or in the
            modality's units where the file states a scale.
        names: description of each band, as the file states it; "" where it states none.
        crs: coordinate reference system, as rasterio's object.
        bounds: left, bottom, right, top in units of `crs`.
        nodata: flags `[C, h, w]`, true where a band has no data; None where every pixel has data.
        scale: scale and offset that the file states, as text, and that were applied; "" where it states none.
        transform: affine transform of the file's own rows and columns; None for a file that is surely north up.
    """

    path: Path
    pixels: NDArray[Any]
    names: tuple[str, ...]
    crs: Any
    bounds: tuple[float, float, float, float]
    nodata: NDArray[np.bool_] | None = None
    scale: str = ""
    transform: Any = None

    @property
    def is_scaled(self) -> bool:
        """Whether the file states a scale or an offset."""
        return bool(self.scale)

    @property
    def ground(self) -> str:
        """CRS, bounds and path as text, for error messages."""
        left, bottom, right, top = self.bounds
        return f"{self.crs} from ({left:.10g}, {bottom:.10g}) to ({right:.10g}, {top:.10g}) in {self.path}"

    @property
    def sides(self) -> tuple[float, float]:
        """Width and height in units of `crs`."""
        left, bottom, right, top = self.bounds
        return right - left, top - bottom


@contextmanager
def opened(path: Path) -> Iterator[Any]:
    """Open one of many rasters of a folder for reading; yields rasterio's dataset."""
    import rasterio

    # Without this option GDAL lists the whole folder each time it opens one of its files. A mask or metadata file
    # beside a raster is still found, by its name.
    with rasterio.Env(GDAL_DISABLE_READDIR_ON_OPEN="TRUE"), rasterio.open(path, driver="GTiff") as dataset:
        yield dataset


def read_raster(
    path: Path, key: str, *, hint: str, bands: Sequence[int] | None = None, units: Units | None = None
) -> Raster:
    """Read bands of a georeferenced file, and the metadata that the file states.

    Args:
        path: path of the file.
        key: key of the pair, for errors.
        hint: advice to the user where the file is absent or damaged.
        bands: numbers of the bands to read, counted from 1; None for all bands except alpha.
        units: units of the modality; None for numbers without units, such as class ids, which are read unchanged.

    Raises:
        PairError: the file is absent, cannot be read, has no georeference, or states a scale that can't be right.
    """
    from rasterio.errors import RasterioError

    if not path.is_file():
        raise PairError("incomplete", f"Pair {key} lacks a file: {path} is absent.", hint=hint)
    try:
        with opened(path) as dataset:
            _require_georeference(key, path, dataset, hint)
            chosen = tuple(bands or data_bands(dataset))
            names = tuple((dataset.descriptions[index - 1] or "").strip() for index in chosen)
            crs, bounds, transform = dataset.crs, box_of(dataset), dataset.transform
            if units is None:
                pixels = north_up(dataset.read(chosen), transform)
                return Raster(path, pixels, names, crs, bounds, transform=transform)
            statement = statement_of(path, dataset, units, chosen)
            found = read_bands(dataset, statement)
            require_possible(path, [found], units)
    except RasterioError as error:
        # The message of rasterio's error only refers to the GDAL error that it wraps.
        reason = error.__cause__ or error
        raise PairError("unreadable", f"Pair {key}: {path} cannot be read: {reason}", hint=hint) from error
    except InputError as error:
        raise PairError("units", f"Pair {key}: {error}") from error
    nodata = found.is_nodata
    return Raster(
        path,
        north_up(scaled(found.stored, statement, units) if statement.is_scaled else found.stored, transform),
        names,
        crs,
        bounds,
        None if nodata is None else north_up(nodata, transform),
        statement.text,
        transform,
    )


def _require_georeference(key: str, path: Path, dataset: Any, hint: str) -> None:
    if dataset.crs is not None and not dataset.transform.is_identity:
        return
    points, _ = dataset.gcps
    raise PairError(
        "georeference",
        f"Pair {key}: {path} has no georeference.",
        got=f"CRS {dataset.crs}, {len(points)} ground control points",
        expected="a CRS and a transform",
        hint=f"terrain-correct it in SNAP, or `gdalwarp -t_srs EPSG:… {path} NEW`, and cut tiles anew"
        if points
        else hint,
    )


def require_ground(key: str, raster: Raster, inputs: Sequence[ModalityInput]) -> None:
    """Refuse a file that is not a tile: rotated, not in metres, of another side length or of another pixel size.

    Args:
        key: key of the pair, for errors.
        raster: one of the pair's files, with band names.
        inputs: arrays of the file's modality that a tile consists of.

    Raises:
        PairError: the file is not a tile; the error states what the file is, what it should be, and the command that
            cuts it again.
    """
    got = _fault_of_place(raster)
    fault: Fault = "georeference" if got else "grid"
    tile_m = inputs[0].side_px * inputs[0].gsd_m
    gsds_m = {item.gsd_m for item in inputs if set(item.bands) & set(raster.names)}
    height, width = raster.pixels.shape[1:]
    pixel = raster.sides[0] / width, raster.sides[1] / height
    is_square = abs(pixel[0] / pixel[1] - 1) < _MAX_PIXEL_ERROR
    is_whole = all(abs(side - tile_m) < _MAX_SHIFT_M for side in raster.sides)
    if not got and is_square and is_whole:
        return
    got = got or f"{raster.sides[0]:g} x {raster.sides[1]:g} m, pixels of {pixel[0]:g} x {pixel[1]:g} m"
    gsd_m = next(iter(gsds_m), None) if len(gsds_m) == 1 else None
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


def _lon_lat(raster: Raster, across: Sequence[float], up: Sequence[float]) -> tuple[list[float], list[float]] | None:
    """Longitudes and latitudes of points at these distances from the centre; None where the CRS is a local grid."""
    from rasterio._err import CPLE_BaseError
    from rasterio.warp import transform

    left, bottom, right, top = raster.bounds
    x, y = (left + right) / 2, (bottom + top) / 2
    try:
        lons, lats = transform(raster.crs, "EPSG:4326", [x + step for step in across], [y + step for step in up])
    except CPLE_BaseError:
        return None
    return (lons, lats) if all(map(math.isfinite, (*lons, *lats))) else None


def _is_metric(raster: Raster) -> bool:
    step = 1000.0
    found = _lon_lat(raster, (0, step, 0), (0, 0, step))
    # A local grid has no place on earth, so its units can't be measured: it is taken to be in metres.
    return found is None or measures_metres(*found, step)


def _cut_anew(raster: Raster, tile_m: int, gsd_m: int | None) -> str:
    """Return the command that cuts a correct tile, with the same bounds for each file of a pair."""
    from rasterio.warp import transform

    place = _lon_lat(raster, (0,), (0,))
    advice = "cut each file of the pair anew from its scene, with its own pixels"
    if place is None:
        return advice
    (lon,), (lat,) = place
    epsg = raster.crs.to_epsg()
    code = epsg if epsg and not raster.crs.is_geographic and _is_metric(raster) else utm_code(lon, lat)
    (x,), (y,) = transform("EPSG:4326", f"EPSG:{code}", [lon], [lat])
    left, bottom = round(x) - tile_m // 2, round(y) - tile_m // 2
    pixel = gsd_m or "GSD"
    return (
        f"{advice}: gdalwarp -t_srs EPSG:{code} -te {left} {bottom} {left + tile_m} {bottom + tile_m} "
        f"-tr {pixel} {pixel} -r bilinear -overwrite SCENE {raster.path}"
    )


def check_same_ground(key: str, rasters: Mapping[str, Raster], *, hint: str = "") -> None:
    """Refuse rasters of one pair that don't cover the same ground, to within a metre.

    Args:
        key: key of the pair, for errors.
        rasters: rasters by a readable name such as "s2 at 20 m".
        hint: advice to the user, for errors.

    Raises:
        PairError: two rasters differ in CRS or bounds.
    """
    (first_name, first), *others = rasters.items()
    max_shift = _MAX_SHIFT_M / (_M_PER_DEGREE if first.crs.is_geographic else 1.0)
    for name, other in others:
        is_near = all(abs(a - b) < max_shift for a, b in zip(other.bounds, first.bounds, strict=True))
        if other.crs != first.crs or not is_near:
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

    Args:
        key: key of the pair, for errors.
        name: name of the band, map or file, for errors.
        pixels: its values.
        shape: right shape.
        dtype: right type.
        units: units of a band; "" for a map, whose numbers have none.
        hint: advice to the user, for errors.

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
