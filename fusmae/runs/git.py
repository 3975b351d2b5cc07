"""A second checkout of one commit, beside the working folder's own."""

import shutil
import subprocess
from pathlib import Path

from fusmae.errors import CheckoutError

_NOTE = Path(".fusmae/worktree.txt")


class Worktree:
    """A detached checkout; one that was cut off is gone on with, one that is done is made anew.

    Attributes:
        folder: the project's folder in it.

    Args:
        top: where the checkout goes.
        commit: that is checked out.
        purpose: what is done there; a checkout for something else is not gone on with.
    """

    def __init__(self, top: Path, commit: str, purpose: str) -> None:
        self._top, self._commit, self._purpose = top, commit, purpose
        # The project may lie in a folder of a larger repository.
        self.folder = top.absolute() / git("rev-parse", "--show-prefix").stdout.strip()

    @property
    def is_begun(self) -> bool:
        """What was cut off can go on: it is the same commit and purpose, and everything was set up."""
        note = self.folder / _NOTE
        return note.exists() and note.read_text(encoding="utf-8") == self._noted

    def make(self) -> None:
        """Check the commit out, in place of whatever is there.

        Raises:
            CheckoutError: git refuses.
        """
        self.remove()
        # No hooks: DVC's would fill the checkout from the cache.
        done = git("-c", "core.hooksPath=/dev/null", "worktree", "add", "--detach", str(self._top), self._commit)
        if done.returncode:
            raise CheckoutError(
                f"git does not check {self._commit} out to {self._top}.",
                got=done.stderr.strip(),
                hint="run `git worktree prune`, and look whether the disk is full",
            )

    def begin(self) -> None:
        """Note that everything is set up."""
        (self.folder / _NOTE).parent.mkdir(exist_ok=True)
        (self.folder / _NOTE).write_text(self._noted, encoding="utf-8")

    def end(self) -> None:
        """Note that everything is done, so that the next one starts anew."""
        (self.folder / _NOTE).unlink()

    def remove(self) -> None:
        """Remove the checkout, with all that is in it."""
        if self._top.exists() and git("worktree", "remove", "--force", str(self._top)).returncode:
            shutil.rmtree(self._top)
        git("worktree", "prune")

    @property
    def _noted(self) -> str:
        return f"{self._commit} {self._purpose}\n"


def git(*arguments: str) -> "subprocess.CompletedProcess[str]":
    """Run git here and keep what it says, whatever its exit code is."""
    return subprocess.run(["git", *arguments], capture_output=True, text=True, check=False)  # noqa: S607
