"""Finds the rasters of a scene in given files, folders and archives; refuses addresses on other machines."""

import re
import shlex
import tarfile
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePath, PurePosixPath
from urllib.parse import unquote, urlsplit

from fusmae.errors import InputError
from fusmae.files import is_hidden, visible_files

ENDINGS = (".tif", ".tiff", ".jp2", ".vrt")
# Files in a Sentinel-2 product's quality folder are named after bands, too.
_QUALITY = "QI_DATA"
# Names of pictures of a scene: they are not bands, though their names may contain a band's name.
PICTURE = re.compile(
    r"(?<![A-Za-z0-9])(thumb(nail)?s?|overviews?|previews?|quick-?looks?|ql|browse|tci|pvi|visual)(?![A-Za-z0-9])", re.I
)
_ARCHIVES = {".zip": "vsizip", ".tar": "vsitar"}
# GDAL takes an archive's path in braces as it is; without them a doubled slash is needed, which pathlib drops.
_MEMBER = re.compile(r"/(vsi(?:zip|tar))/\{(.+?)\}/")
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+):/")
_COPY = {"http": "curl -fLO", "https": "curl -fLO", "ftp": "curl -fLO", "s3": "aws s3 cp", "gs": "gcloud storage cp"}


def scene_files(modality: str, given: Sequence[str | Path]) -> list[Path]:
    """Rasters of a scene, given as files, folders, archives or GDAL's paths into archives (`/vsizip/a.zip/VV.tif`).

    They are in the order of their names in each folder, without its hidden files, quality masks and pictures; a file
    that is given itself is always taken. A file in an archive is `/vsizip/{ARCHIVE}/NAME`, which GDAL opens.

    Raises:
        InputError: an address is not on this machine, or a folder or an archive holds no raster.
    """
    return [file for item in given for file in _files_of(modality, item)]


def stored_in(path: Path) -> Path:
    """The file on this machine that holds a raster: the raster itself, or the archive that it is in."""
    member = _MEMBER.match(str(path))
    return Path(member[2]) if member else path


def is_there(text: str) -> bool:
    """Whether a text is the path of a file or folder; an address may be too long for one."""
    try:
        return Path(text).exists()
    except OSError:
        return False


def _files_of(modality: str, given: str | Path) -> list[Path]:
    text = str(given)
    if text.startswith("/vsi"):
        kind, archive, inside = _split_virtual(text)
        # A raster that is given itself is always taken, as outside of archives.
        is_raster = inside.lower().endswith(ENDINGS)
        return [_member(kind, archive, inside)] if is_raster else _listed_archive(modality, kind, archive, inside)
    if _SCHEME.match(text) and not is_there(text):
        parts = urlsplit(text)
        if parts.scheme.lower() != "file":
            raise _elsewhere(text, parts.scheme.lower())
        text = unquote(parts.path)
    path = Path(text)
    kind_of_archive = _ARCHIVES.get(path.suffix.lower())
    if kind_of_archive and path.is_file():
        return _listed_archive(modality, kind_of_archive, path, "")
    if not path.is_dir():
        return [path]
    return _bands_among(modality, path, {file.relative_to(path): file for file in visible_files(path, ENDINGS)})


def _split_virtual(text: str) -> tuple[str, Path, str]:
    """Split a virtual path into GDAL's handler, the archive and the path in it."""
    handler, _, rest = text[1:].partition("/")
    if handler not in _ARCHIVES.values() or "/vsi" in f"/{rest}":
        raise _elsewhere(text, handler)
    if braced := re.match(r"\{(.+?)\}/?", rest):
        return handler, Path(braced[1]), rest[braced.end() :]
    path = PurePosixPath(rest)
    for candidate in (*reversed(path.parents), path):
        # If a caller made a `Path` of the text, pathlib dropped one of two slashes.
        for archive in (Path(candidate), Path("/") / candidate):
            if archive.is_file():
                return handler, archive, "/".join(path.relative_to(candidate).parts)
    raise InputError(
        f"There is no archive in {text}.",
        expected=f"/{handler}/ARCHIVE/NAME, where ARCHIVE is a file on this machine",
        hint=f"give the archive itself: {', '.join(_ARCHIVES)} are listed as folders are",
    )


def _listed_archive(modality: str, kind: str, archive: Path, inside: str) -> list[Path]:
    try:
        if kind == "vsizip":
            with zipfile.ZipFile(archive) as opened_zip:
                names = opened_zip.namelist()
        else:
            with tarfile.open(archive) as opened_tar:
                names = [member.name for member in opened_tar if member.isfile()]
    except (OSError, zipfile.BadZipFile, tarfile.TarError) as error:
        hint = "unpack it, then give the folder"
        raise InputError(f"{archive} can't be read as an archive: {error}.", hint=hint) from error
    members = [member for member in map(PurePosixPath, sorted(names)) if member.is_relative_to(inside)]
    rasters: dict[PurePath, Path] = {
        member.relative_to(inside): _member(kind, archive, member.as_posix())
        for member in members
        if member.suffix.lower() in ENDINGS and not is_hidden(member.relative_to(inside))
    }
    return _bands_among(modality, archive / inside, rasters)


def _member(kind: str, archive: Path, inside: str) -> Path:
    return Path(f"/{kind}/{{{archive.absolute()}}}/{inside}")


def _bands_among(modality: str, given: Path, rasters: Mapping[PurePath, Path]) -> list[Path]:
    """Those of a folder's or an archive's rasters, by their path in it, that are bands."""
    bands = [
        file
        for inside, file in rasters.items()
        if not any(part == _QUALITY or PICTURE.search(part) for part in inside.parts)
    ]
    if not bands:
        raise InputError(
            f"{given} holds pictures and quality masks only." if rasters else f"{given} holds no raster.",
            got=", ".join(file.name for file in list(rasters.values())[:5]) or None,
            expected=f"files that end in {', '.join(ENDINGS)}",
            hint=f"check the path of the {modality} scene"
            + ("; a file that is a band all the same can be given itself" if rasters else ""),
        )
    return bands


def _elsewhere(text: str, kind: str) -> InputError:
    copying = f": {_COPY[kind]} {shlex.quote(text)}{' .' * (kind in ('s3', 'gs'))}" if kind in _COPY else ""
    return InputError(
        f"{text} is not on this machine.",
        expected="a file, folder or archive here (a map reads its scene many times), /vsizip/ and /vsitar/ to one, or "
        "a STAC item, whose assets may be elsewhere",
        hint=f"copy it first, then give the copy{copying}",
    )
