"""Bring everything up to date with raw files that a user may have changed."""

import os
import sys
from pathlib import Path

from fusmae.config import Config
from fusmae.errors import SourceError
from fusmae.process_group import own_programs_first, run_in_group
from fusmae.sources.receipt import is_as_received

CHANGED = 3
"""Exit code of a look that found changed files."""


def update(config: Config, *, raw: Path, receipt: Path, check: bool) -> int:
    """Look at the raw files; if they are not those of the receipt, run stage fetch anew; then `dvc repro`.

    DVC itself sees the receipt only, not the files.

    Args:
        config: params.yaml.
        raw: folder of unpacked raw data, a folder a source.
        receipt: JSON that says what they were.
        check: only look.

    Returns:
        Exit code: that of DVC; of a look, 3 where files have changed and 0 where not.
    """
    folder = raw / config.data.source.name
    is_same = _is_same(config, folder, receipt)
    print(f"{folder}: {'as' if is_same else 'not as'} {receipt} says", file=sys.stderr)
    if check:
        return 0 if is_same else CHANGED
    code = 0 if is_same else _dvc("repro", "--force", "--single-item", "fetch")
    return code or _dvc("repro")


def _is_same(config: Config, folder: Path, receipt: Path) -> bool:
    try:
        return is_as_received(config.data.source, folder, receipt)
    except SourceError:  # stage fetch says what is wrong
        return False


def _dvc(*arguments: str) -> int:
    command = [str(Path(sys.executable).with_name("dvc")), *arguments]
    return run_in_group(command, environment={**os.environ, "PATH": own_programs_first()})
