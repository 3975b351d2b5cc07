"""Git checkouts: the original of a temporary one, and a second one of another commit."""

import shutil
import subprocess
from pathlib import Path

from fusmae.errors import CheckoutError


def original_folder() -> Path:
    """The working folder; during `dvc exp run --temp` or `--queue`, the same folder in the original checkout.

    DVC removes a temporary checkout, with everything in it, as soon as its experiment has ended.
    """
    return _original_of(Path.cwd())


def is_temporary() -> bool:
    """Whether the working folder is in a checkout that DVC removes."""
    return original_folder() != Path.cwd()


def _original_of(folder: Path) -> Path:
    top = _git_top(folder)
    for exps in top.parents:
        if exps.parts[-3:] == (".dvc", "tmp", "exps"):
            # DVC checks out the whole git repository; the project may be one folder in it.
            return _original_of(_git_top(exps.parents[2]) / folder.relative_to(top))
    return folder


def _git_top(folder: Path) -> Path:
    return next((top for top in (folder, *folder.parents) if (top / ".git").exists()), folder)


class Worktree:
    """A detached checkout; work that was interrupted in it can continue, and after finished work it is made anew.

    Its root is `top`; the project is in `folder`, which may be below. `purpose` names the work: a checkout that was
    made for other work is not continued.
    """

    def __init__(self, top: Path, commit: str, purpose: str) -> None:
        self._top, self._commit, self._noted = top, commit, f"{commit} {purpose}\n"
        self.folder = top.absolute() / git("rev-parse", "--show-prefix").stdout.strip()
        self._note = self.folder / ".fusmae" / "worktree.txt"

    @property
    def is_begun(self) -> bool:
        """Whether interrupted work can continue: commit and purpose are the same, and everything was set up."""
        return self._note.exists() and self._note.read_text(encoding="utf-8") == self._noted

    def make(self) -> None:
        """Check the commit out, in place of whatever is there.

        Raises:
            CheckoutError: git can't check the commit out.
        """
        self.remove()
        # Without hooks: DVC's hook would fill the checkout from the cache.
        done = git("-c", "core.hooksPath=/dev/null", "worktree", "add", "--detach", str(self._top), self._commit)
        if done.returncode:
            raise CheckoutError(
                f"git does not check {self._commit} out to {self._top}.",
                got=done.stderr.strip(),
                hint="run `git worktree prune`, and look whether the disk is full",
            )

    def begin(self) -> None:
        """Note that everything is set up."""
        self._note.parent.mkdir(exist_ok=True)
        self._note.write_text(self._noted, encoding="utf-8")

    def end(self) -> None:
        """Note that the work is done, so that the next checkout is made anew."""
        self._note.unlink()

    def remove(self) -> None:
        """Remove the checkout, with all that is in it."""
        if self._top.exists() and git("worktree", "remove", "--force", str(self._top)).returncode:
            shutil.rmtree(self._top)
        git("worktree", "prune")


def git(*arguments: str, timeout_s: float | None = None) -> "subprocess.CompletedProcess[str]":
    """Run git in the working folder and capture its output; a non-zero exit code raises nothing.

    Raises:
        FileNotFoundError: git is not installed.
        subprocess.TimeoutExpired: it took longer than `timeout_s` seconds.
    """
    command = ["git", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=timeout_s)
