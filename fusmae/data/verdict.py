"""The examination's verdict: which shards may be trained on."""

import json
from pathlib import Path

from fusmae.data.shards import MANIFEST
from fusmae.errors import ExaminationError
from fusmae.files import file_sha256, write_json


def write_verdict(path: Path, shards: Path) -> None:
    """Record that exactly these shards were examined and may be trained on."""
    write_json(path, {"is_fit": True, "shards": file_sha256(shards / MANIFEST)})


def require_verdict(path: Path, shards: Path) -> None:
    """Refuse shards that were not examined, or that changed since their examination.

    Raises:
        ExaminationError: there is no verdict on these shards.
    """
    if not path.exists():
        raise ExaminationError(
            f"{shards} has not passed the examination: {path} is not there.",
            hint="dvc repro examine, and read reports/examine/report.html",
        )
    expected = json.loads(path.read_text(encoding="utf-8"))["shards"]
    got = file_sha256(shards / MANIFEST) if (shards / MANIFEST).exists() else "no manifest"
    if got != expected:
        raise ExaminationError(
            f"{path} is of other shards than {shards}.", got=got, expected=expected, hint="dvc repro examine"
        )
