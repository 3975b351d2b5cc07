"""How a stage's process ended, told to the flow that started it: DVC stands between them and passes no exit code on."""

import errno
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

OUTCOME = "FUSMAE_OUTCOME"
"""Environment variable with the file that a stage's process writes its exit code to; no result knows it."""
TEMPORARY = 75
"""Exit code of what may go well when it is tried again (EX_TEMPFAIL of sysexits.h)."""
TOLD_TO_END = 128 + 15

_BEGUN = "begun"
# By name: none of these packages is imported here.
_PASSING = {
    "requests.exceptions": ("ConnectionError", "Timeout", "ChunkedEncodingError"),
    "urllib3.exceptions": ("HTTPError",),
    "sqlalchemy.exc": ("OperationalError", "InterfaceError", "TimeoutError"),
    "filelock": ("Timeout",),
    "torch": ("OutOfMemoryError",),
    "botocore.exceptions": ("EndpointConnectionError", "ConnectionError"),
    "fusmae.sources.transfer.server": ("DroppedError",),
}
# torch and oneDNN say it by a RuntimeError.
_OUT_OF_MEMORY = ("can't allocate memory", "not enough memory", "could not create a primitive", "out of memory")


def note_begin() -> None:
    """Note that the stage's process runs; one that is killed leaves it at that."""
    _note(_BEGUN)


def note_end(code: int) -> None:
    """Note the exit code."""
    _note(str(code))


def is_worth_another_try(file: Path) -> bool:
    """Whether the process that wrote the file was cut off, or failed for what passes: network, lock, memory, disk.

    A stage that never began, and one that failed for what it was given, would fail again.
    """
    if not file.exists():
        return False
    return file.read_text(encoding="utf-8") in (_BEGUN, str(TEMPORARY), str(TOLD_TO_END))


def exit_code(error: BaseException) -> int:
    """What a process ends with for an error: 75 if it may go well another time, 143 if it was told to end, else 1."""
    if isinstance(error, SystemExit):
        # Lightning ends a run that heard SIGTERM by one of its own, without a code: DVC would take it for done.
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


def _note(text: str) -> None:
    file = os.environ.get(OUTCOME)
    # Of several training processes the first says how it went; the others end because it did.
    if file and os.environ.get("RANK", "0") == "0":
        with suppress(OSError):  # a full disk: the file says "begun" then, which means the same
            Path(file).write_text(text, encoding="utf-8")
