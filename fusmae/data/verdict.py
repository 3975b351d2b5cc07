"""The doctor's verdict: which shards training may see."""

import json
from pathlib import Path

from fusmae.data.shards import MANIFEST
from fusmae.errors import DoctorError
from fusmae.files import file_sha256, write_json


def write_verdict(path: Path, shards: Path) -> None:
    """State that these very shards were examined and nothing blocks."""
    write_json(path, {"is_fit": True, "shards": file_sha256(shards / MANIFEST)})


def require_verdict(path: Path, shards: Path) -> None:
    """Refuse shards that were not examined, or changed since.

    Raises:
        DoctorError: there is no verdict on these shards.
    """
    if not path.exists():
        raise DoctorError(
            f"The doctor has not passed {shards}: {path} is not there.",
            hint="dvc repro doctor, and read reports/doctor/report.html",
        )
    expected = json.loads(path.read_text(encoding="utf-8"))["shards"]
    got = file_sha256(shards / MANIFEST) if (shards / MANIFEST).exists() else "no manifest"
    if got != expected:
        raise DoctorError(
            f"{path} is of other shards than {shards}.", got=got, expected=expected, hint="dvc repro doctor"
        )
