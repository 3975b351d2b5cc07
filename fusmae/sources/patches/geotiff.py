"""BigEarthNet's layout: one folder per patch, in it one GeoTIFF per band, named `<folder>_<band>.tif`."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fusmae.data.index import Pair
from fusmae.errors import PairError
from fusmae.rasters.geometry import box_of, is_turned, north_up
from fusmae.rasters.raster_file import read_bands, statement_of
from fusmae.sources.patches.bands import MODALITIES, RESTORE, validate_bands
from fusmae.sources.patches.plain_tiff import BandRaster, plain_raster


def read_patches(raw: Path, pair: Pair) -> dict[str, NDArray[Any]]:
    """Read all modalities of a pair, which are folders in `raw`, and check bands, types and sizes.

    Returns:
        S1 float32 dB `[120, 120]`, S2 uint16 `[120, 120]`, `[60, 60]` or `[20, 20]` by band.

    Raises:
        PairError: a modality or a band is missing, unreadable, in another place, or of another size or type.
    """
    folders = {modality: raw / folder for modality, folder in pair.files.items()}
    return validate_bands(pair.key, read_pair_folders(pair.key, folders))


def read_pair_folders(key: str, folders: dict[str, Path]) -> dict[str, NDArray[Any]]:
    """Read all modalities of a pair by band name.

    Args:
        key: key of the pair, for errors.
        folders: folder of the patch by modality.

    Returns:
        Pixels `[h, w]` by band name, in the files' own type and resolution.

    Raises:
        PairError: a modality or band is missing or cannot be read, or the bands don't cover the same ground.
    """
    missing = [f"{modality}: {folder}" for modality, folder in folders.items() if not folder.is_dir()]
    if missing:
        raise PairError(
            "incomplete",
            f"Pair {key} lacks a side: {'; '.join(missing)} is absent.",
            expected=list(folders),
            hint=RESTORE,
        )
    bands: dict[str, BandRaster] = {}
    for modality, folder in folders.items():
        for name in MODALITIES[modality].bands:
            bands[name] = read_band(folder / f"{folder.name}_{name}.tif", key, name)
    check_ground(key, bands)
    return {name: band.pixels for name, band in bands.items()}


def read_band(path: Path, key: str, band: str) -> BandRaster:
    """Read one file of a patch; pixels without data become NaN in floating-point files and 0 in integer files.

    Args:
        path: path of the file.
        key: key of the pair, for errors.
        band: name of the band or map, for errors.

    Raises:
        PairError: the file is absent, cannot be read, is not one band with a georeference, or states a scale.
    """
    try:
        plain = plain_raster(path.read_bytes())
    except FileNotFoundError as error:
        raise PairError("incomplete", f"Pair {key} has no band {band}: {path} is absent.", hint=RESTORE) from error
    except OSError as error:
        raise _unreadable(path, key, band, error) from error
    if plain is None:
        # GDAL also describes best what is wrong with a damaged file.
        return _read_by_gdal(path, key, band)
    if plain.nodata:  # pixels of 0 or NaN need no change
        _empty(plain.pixels, plain.pixels == plain.nodata)
    return plain


def _read_by_gdal(path: Path, key: str, band: str) -> BandRaster:
    import rasterio
    from rasterio.errors import RasterioError

    try:
        # A patch has no sidecar files, and searching its folder for them takes longer than reading the patch.
        with rasterio.Env(GDAL_DISABLE_READDIR_ON_OPEN="EMPTY_DIR"), rasterio.open(path, driver="GTiff") as dataset:
            count, crs, bounds, transform = dataset.count, dataset.crs, box_of(dataset), dataset.transform
            statement = statement_of(path, dataset, "DN", [1])
            found = read_bands(dataset, statement)
    except RasterioError as error:
        # The message of rasterio's error only refers to the GDAL error that it wraps.
        raise _unreadable(path, key, band, error.__cause__ or error) from error
    if count != 1 or crs is None or is_turned(transform):
        raise PairError(
            "georeference",
            f"Pair {key}, band {band}: {path} is not one band with a georeference, north up.",
            got=f"{count} bands, CRS {crs}, transform {tuple(transform)[:6]}",
            hint=RESTORE,
        )
    if statement.is_scaled:
        raise PairError(
            "units",
            f"Pair {key}, band {band}: {path} states a scale, which no file of the dataset does.",
            got=statement.text,
            hint=RESTORE,
        )
    if found.is_nodata is not None:
        _empty(found.stored, found.is_nodata)
    return BandRaster(north_up(found.stored, transform)[0], str(crs), bounds)


def _empty(pixels: NDArray[Any], is_nodata: NDArray[np.bool_]) -> None:
    pixels[is_nodata] = np.nan if pixels.dtype.kind == "f" else 0


def _unreadable(path: Path, key: str, band: str, reason: BaseException) -> PairError:
    return PairError("unreadable", f"Pair {key}, band {band}: {path} cannot be read: {reason}", hint=RESTORE)


def check_ground(key: str, bands: dict[str, BandRaster]) -> None:
    """Refuse bands of one pair that don't cover the same ground, to within a metre.

    Args:
        key: key of the pair, for errors.
        bands: bands by name.

    Raises:
        PairError: two bands differ in CRS or bounds.
    """
    first_name, first = next(iter(bands.items()))
    for name, band in bands.items():
        # BigEarthNet's corners are whole metres; a difference below 1 m is rounding by a program that rewrote the file.
        is_near = all(abs(a - b) < 1.0 for a, b in zip(band.bounds, first.bounds, strict=True))
        if band.crs != first.crs or not is_near:
            raise PairError(
                "georeference",
                f"Pair {key}: bands {name} and {first_name} don't cover the same ground.",
                got=f"{name}: {band.crs} {band.bounds}",
                expected=f"{first_name}: {first.crs} {first.bounds}",
                hint=RESTORE,
            )
