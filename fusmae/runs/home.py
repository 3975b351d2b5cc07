"""The checkout that a temporary folder of DVC belongs to: files that must outlast a stage's run are kept there."""

from pathlib import Path

_TEMPORARY = (".dvc", "tmp", "exps")


def home_folder() -> Path:
    """The working folder; during `dvc exp run --temp` or `--queue`, the same folder in the original checkout.

    DVC removes a temporary checkout, with everything in it, as soon as its experiment has ended.
    """
    return _home_of(Path.cwd())


def is_temporary() -> bool:
    """Whether the working folder is in a checkout that DVC removes."""
    return home_folder() != Path.cwd()


def _home_of(folder: Path) -> Path:
    top = _git_top(folder)
    for exps in top.parents:
        if exps.parts[-3:] == _TEMPORARY:
            # DVC checks out the whole git repository; the project may be one folder in it.
            return _home_of(_git_top(exps.parents[2]) / folder.relative_to(top))
    return folder


def _git_top(folder: Path) -> Path:
    return next((top for top in (folder, *folder.parents) if (top / ".git").exists()), folder)
