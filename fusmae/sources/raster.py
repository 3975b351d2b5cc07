"""One side of a pair as one GeoTIFF of several bands."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from fusmae.errors import PairError

_MAX_SHIFT_M = 1.0
_M_PER_DEGREE = 111_195.0


@dataclass(frozen=True)
class Raster:
    """A GeoTIFF's pixels and where they lie.

    Attributes:
        path: the file, for errors.
        pixels: `[C, h, w]`, in the file's own type.
        names: description of each band, as the file states it; "" where it states none.
        crs: rasterio's coordinate reference system.
        bounds: left, bottom, right, top in units of `crs`.
    """

    path: Path
    pixels: NDArray[Any]
    names: tuple[str, ...]
    crs: Any
    bounds: tuple[float, float, float, float]

    @property
    def ground(self) -> str:
        """CRS and bounds, for people."""
        left, bottom, right, top = self.bounds
        return f"{self.crs} from ({left:.10g}, {bottom:.10g}) to ({right:.10g}, {top:.10g}) in {self.path}"


@contextmanager
def opened(path: Path) -> Iterator[Any]:
    """Open one of many rasters of a folder for reading; gives rasterio's dataset."""
    import rasterio

    # Without it GDAL lists the folder, of hundreds of files, each time it opens one of them.
    with rasterio.Env(GDAL_DISABLE_READDIR_ON_OPEN="EMPTY_DIR"), rasterio.open(path, driver="GTiff") as dataset:
        yield dataset


def read_raster(path: Path, key: str, *, hint: str, bands: Sequence[int] | None = None) -> Raster:
    """Read bands of a georeferenced file.

    Args:
        path: the file.
        key: the pair's key, for errors.
        hint: what to do where the file is absent or damaged.
        bands: numbers of the bands to read, from 1; None for all.

    Raises:
        PairError: the file is absent, cannot be read or has no georeference.
    """
    from rasterio.errors import RasterioError

    if not path.is_file():
        raise PairError("incomplete", f"Pair {key} lacks a file: {path} is absent.", hint=hint)
    try:
        with opened(path) as dataset:
            names = tuple((name or "").strip() for name in dataset.descriptions)
            crs, bounds = dataset.crs, tuple(dataset.bounds)
            pixels: NDArray[Any] = dataset.read(bands)
    except RasterioError as error:
        # rasterio's own text only points to the GDAL error that it wraps
        reason = error.__cause__ or error
        raise PairError("unreadable", f"Pair {key}: {path} cannot be read: {reason}", hint=hint) from error
    if crs is None:
        raise PairError(
            "georeference", f"Pair {key}: {path} has no georeference.", expected="a CRS and a transform", hint=hint
        )
    return Raster(path, pixels, names, crs, bounds)


def check_same_ground(key: str, rasters: Mapping[str, Raster]) -> None:
    """Refuse rasters of one pair that don't cover the same ground, to within a metre.

    Args:
        key: the pair's key, for errors.
        rasters: by a name for people, like "s2 at 20 m".

    Raises:
        PairError: another CRS or other bounds.
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
            )
