"""`fusmae update`: everything is brought up to date with raw files that a user may have changed."""

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fusmae.cli.call import begin, load_params
from fusmae.cli.options import Raw, Receipt
from fusmae.errors import SourceError
from fusmae.runs.process_group import own_programs_first, run_in_group

if TYPE_CHECKING:
    from fusmae.config.params import Config

CHANGED = 3
"""Exit code of a look that found changed files."""


def update(
    check: Annotated[bool, typer.Option("--check", help="Only look: exit code 3 where files have changed.")] = False,
    raw: Raw = Path("data/raw"),
    receipt: Receipt = Path("data/raw.json"),
) -> None:
    """Look for changed raw files, then run `dvc repro`.

    Files that you added, removed or changed are found by names, sizes and times; only files where these are others are
    read. Then all runs that they concern.

    Example: fusmae update
    """
    config = load_params()
    begin("update")
    raise typer.Exit(bring_up_to_date(config, raw=raw, receipt=receipt, check=check))


def bring_up_to_date(config: "Config", *, raw: Path, receipt: Path, check: bool) -> int:
    """Run what changed raw files concern: DVC itself sees their receipt only.

    Files that a user brings are looked at; if they are not those of the receipt, stage fetch runs anew. Those that were
    fetched are too many to be looked at: the stages that read them run anew. Then `dvc repro` does the rest.

    Args:
        config: params.yaml.
        raw: folder of unpacked raw data, one folder per source.
        receipt: JSON that says what they were.
        check: only look.

    Returns:
        Exit code: that of DVC; of a look, 3 where files have changed and 0 where not.
    """
    from fusmae.config.source import BROUGHT_BY_HAND

    name = config.data.source.name
    is_same = _is_same(config, raw / name, receipt)
    print(f"{raw / name} is {'what' if is_same else 'not what'} {receipt} says", file=sys.stderr)
    if check:
        return 0 if is_same else CHANGED
    anew = ["fetch"] if not is_same else ["index", "shard"] if name not in BROUGHT_BY_HAND else []
    code = _dvc("repro", "--force", "--single-item", *anew) if anew and receipt.exists() else 0
    return code or _dvc("repro")


def _is_same(config: "Config", folder: Path, receipt: Path) -> bool:
    from fusmae.sources.receipt import is_as_received

    try:
        return is_as_received(config.data.source, folder, receipt)
    except SourceError:  # stage fetch says what is wrong
        return False


def _dvc(*arguments: str) -> int:
    command = [str(Path(sys.executable).with_name("dvc")), *arguments]
    return run_in_group(command, environment={**os.environ, "PATH": own_programs_first()})
