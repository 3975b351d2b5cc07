"""The checkout that a folder of DVC's belongs to: what a stage keeps there must outlast its run."""

from pathlib import Path

_TEMPORARY = (".dvc", "tmp", "exps")


def home_folder() -> Path:
    """The working folder; in a temporary checkout of `dvc exp run --temp` or `--queue`, the same one of the checkout.

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
            # DVC checks the whole git repository out, of which the project may be one folder.
            return _home_of(_git_top(exps.parents[2]) / folder.relative_to(top))
    return folder


def _git_top(folder: Path) -> Path:
    return next((top for top in (folder, *folder.parents) if (top / ".git").exists()), folder)
