"""How a stage's process ended, in a file for the flow that started it: DVC, between them, passes on no exit code."""

import errno
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

EXIT_CODE_FILE = "FUSMAE_EXIT_CODE_FILE"
"""Environment variable: path of the file that a stage's process writes its exit code to; no result depends on it."""
TEMPORARY = 75
"""Exit code of a failure after which another try may succeed (EX_TEMPFAIL of sysexits.h)."""
TOLD_TO_END = 128 + 15
"""Exit code of a process that SIGTERM ended."""

_BEGUN = "begun"
# Exceptions after which another try may succeed, by name: none of these packages is imported here.
_PASSING = {
    "requests.exceptions": ("ConnectionError", "Timeout", "ChunkedEncodingError"),
    "urllib3.exceptions": ("HTTPError",),
    "sqlalchemy.exc": ("OperationalError", "InterfaceError", "TimeoutError"),
    "filelock": ("Timeout",),
    "torch": ("OutOfMemoryError",),
    "botocore.exceptions": ("EndpointConnectionError", "ConnectionError"),
    "fusmae.sources.transfer.server": ("DroppedError",),
}
# torch and oneDNN report it by a RuntimeError with one of these texts.
_OUT_OF_MEMORY = ("can't allocate memory", "not enough memory", "could not create a primitive", "out of memory")


def note_begin() -> None:
    """Note that the stage's process has begun; of a process that is killed, this note remains."""
    _note(_BEGUN)


def note_end(code: int) -> None:
    """Note the exit code in place of that."""
    _note(str(code))


def _note(text: str) -> None:
    file = os.environ.get(EXIT_CODE_FILE)
    # Of several training processes only the first notes its end; the others end because it did.
    if file and os.environ.get("RANK", "0") == "0":
        with suppress(OSError):  # a full disk: the file still contains "begun", which means the same
            Path(file).write_text(text, encoding="utf-8")


def is_worth_another_try(file: Path) -> bool:
    """Whether the process that wrote the file was killed, or failed for a passing reason: network, lock, memory, disk.

    A stage that never began, and one that failed because of its inputs, would fail again.
    """
    return file.exists() and file.read_text(encoding="utf-8") in (_BEGUN, str(TEMPORARY), str(TOLD_TO_END))


def exit_code(error: BaseException) -> int:
    """The exit code for an error: 75 if another try may succeed, 143 if a signal ended the run, else 1."""
    if isinstance(error, SystemExit):
        # Lightning ends a run that received SIGTERM by a subclass without a code: DVC would take the stage for done.
        plain = type(error) is SystemExit
        return (error.code if isinstance(error.code, int) else int(error.code is not None)) if plain else TOLD_TO_END
    return TEMPORARY if any(map(_passes, _causes(error))) else 1


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _passes(error: BaseException) -> bool:
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.ENOMEM, errno.ESTALE):
        return True
    if isinstance(error, ConnectionError | TimeoutError | MemoryError):
        return True
    if isinstance(error, RuntimeError) and any(text in str(error) for text in _OUT_OF_MEMORY):
        return True
    return any(
        kind.__name__ in names and kind.__module__.startswith(package)
        for kind in type(error).__mro__
        for package, names in _PASSING.items()
    )
