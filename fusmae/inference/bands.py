"""Which file and which band in it holds each band of a scene, by name."""

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fusmae.errors import InputError
from fusmae.rasters import data_bands

_ENDINGS = (".tif", ".tiff", ".jp2", ".vrt")
# What a Sentinel-2 product's quality folder holds is named after bands too.
_QUALITY = "QI_DATA"


@dataclass(frozen=True)
class BandFile:
    """One band on disk.

    Attributes:
        path: the file.
        index: the band's number in it, from 1.
        pixel: side of a pixel in units of the file's own CRS.
    """

    path: Path
    index: int
    pixel: float


@dataclass(frozen=True)
class _Band:
    file: BandFile
    names: tuple[str, ...]


def find_bands(
    modality: str, paths: Sequence[Path], wanted: Mapping[str, int], given: Sequence[str] | None = None
) -> dict[str, BandFile]:
    """Find the bands of a scene.

    A band is known by its description, else by its tags, else (a file of one band) by the file's name:
    `T33UUP_20170613T101031_B02.tif`. `B2` is `B02`. Where several files hold a band, the one whose pixel is nearest to
    what the model takes is used.

    Args:
        modality: `s1` or `s2`, for errors.
        paths: rasters, or folders of them.
        wanted: ground sampling distance in metres by band name, as the model takes it.
        given: names of all bands, in the order of the files and of the bands in them, instead of what files say.

    Returns:
        The wanted bands by name.

    Raises:
        InputError: no such file, one that can't be opened, bands that are missing or can't be told apart.
    """
    bands = [band for path in _listed(modality, paths) for band in _bands_in(path, wanted)]
    if given is not None:
        if len(given) != len(bands):
            raise InputError(
                f"--{modality}-bands does not fit the {modality} files.",
                got=f"{len(given)} names: {', '.join(given)}",
                expected=f"{len(bands)} names, one a band: {_described(bands)}",
                hint="name every band in the order of the files; any word for those that the model does not need",
            )
        bands = [_Band(band.file, _names((name,), wanted) or (name,)) for band, name in zip(bands, given, strict=True)]
    _require_all(modality, bands, wanted)
    return {name: _nearest(name, gsd_m, bands) for name, gsd_m in wanted.items()}


@contextmanager
def raster(path: Path) -> Iterator[Any]:
    """Open a raster for reading; gives rasterio's dataset.

    Raises:
        InputError: there is none, or it can't be read, now or while it is open.
    """
    import rasterio
    from rasterio.errors import RasterioError

    if not path.exists():
        raise InputError(f"There is no file {path}.", hint="check --s1 and --s2")
    try:
        with rasterio.open(path) as dataset:
            yield dataset
    except RasterioError as error:
        raise unreadable(path, error) from error


def unreadable(path: Path, error: Exception) -> InputError:
    """What a file that GDAL can't read means to the person who gave it."""
    # rasterio's own text only points to the GDAL error that it wraps.
    return InputError(
        f"{path} can't be read: {error.__cause__ or error}",
        expected="a whole raster that GDAL can read",
        hint="it may be cut short or damaged: compare its size with the original's, and copy it again",
    )


def _listed(modality: str, paths: Sequence[Path]) -> list[Path]:
    files: list[Path] = []
    for path in paths:
        if not path.is_dir():
            files.append(path)
            continue
        inside = sorted(
            file
            for file in path.rglob("*")
            if file.suffix.lower() in _ENDINGS and _QUALITY not in file.relative_to(path).parts
        )
        if not inside:
            raise InputError(
                f"{path} holds no raster.",
                expected=f"files that end in {', '.join(_ENDINGS)}",
                hint=f"check --{modality}",
            )
        files += inside
    return files


def _bands_in(path: Path, wanted: Mapping[str, int]) -> list[_Band]:
    with raster(path) as dataset:
        pixel = (abs(dataset.res[0]) + abs(dataset.res[1])) / 2
        found = []
        indexes = data_bands(dataset)
        for index in indexes:
            description = dataset.descriptions[index - 1]
            names = _names((description or "",), wanted) or _names(dataset.tags(index).values(), wanted)
            if not names and len(indexes) == 1:
                names = _names((path.stem,), wanted)
            found.append(_Band(BandFile(path, index, pixel), names))
        return found


def _names(texts: Any, wanted: Mapping[str, int]) -> tuple[str, ...]:
    """Wanted names that texts hold as words: `B02` in `T33UUP_B02_10m`, `b2` or `B2 (blue)`."""
    return tuple(name for name in wanted if any(_pattern(name).search(text) for text in texts))


def _pattern(name: str) -> re.Pattern[str]:
    without_zero = re.sub(r"^([A-Za-z]+)0(?=\d)", r"\g<1>0?", name)
    return re.compile(rf"(?<![A-Za-z0-9]){without_zero}(?![A-Za-z0-9])", re.IGNORECASE)


def _require_all(modality: str, bands: Sequence[_Band], wanted: Mapping[str, int]) -> None:
    known = {band.names[0] for band in bands if len(band.names) == 1}
    missing = [name for name in wanted if name not in known]
    if missing:
        raise InputError(
            f"The {modality} scene lacks {'bands' if len(missing) > 1 else 'band'} {', '.join(missing)}.",
            got=_described(bands),
            expected=f"bands {', '.join(wanted)}, named by description, by tag or by file name",
            hint=f"bring the missing ones; if they are there without a name, say which band is which: "
            f"--{modality}-bands {','.join(wanted)}",
        )


def _nearest(name: str, gsd_m: int, bands: Sequence[_Band]) -> BandFile:
    # Pixels in degrees are all "nearest" to nothing, but order the same way.
    files = [band.file for band in bands if band.names == (name,)]
    distances = [abs(file.pixel - gsd_m) for file in files]
    nearest = [file for file, distance in zip(files, distances, strict=True) if distance == min(distances)]
    if len(nearest) > 1:
        raise InputError(
            f"Several files hold band {name}.",
            got=", ".join(f"{file.path} band {file.index}" for file in nearest),
            expected="one",
            hint="give one scene at a time, file by file if its folder holds more",
        )
    return nearest[0]


def _described(bands: Sequence[_Band]) -> str:
    shown = [f"{band.file.path.name}[{band.file.index}] {'/'.join(band.names) or '?'}" for band in bands[:20]]
    return ", ".join(shown) + (f" and {len(bands) - 20} more" if len(bands) > 20 else "")
