"""Run a command so that it and all processes that it starts end together.

A killed process can't end its children, and those of DVC outlive it. So the command's process group is led by this
file, run as a program of its own, which holds one end of a pipe: its standard input ends when the calling process dies,
however it dies. The file imports nothing of the project, because the checkout in the working folder may be at another
commit.
"""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import IO

GRACE_S = 20.0
"""Seconds in which the trainer can write its checkpoint; Prefect kills a cancelled flow 30 s after its first signal."""


def run_in_group(
    command: Sequence[str],
    *,
    folder: Path | None = None,
    environment: Mapping[str, str] | None = None,
    stdout: IO[str] | None = None,
) -> int:
    """Run a command to its end; if a signal ends or kills this process, the command and its children end too.

    DVC does not pass signals on to the training process that it started. Where `folder`, `environment` or `stdout` is
    None, the command has this process's.

    Returns:
        The command's exit code; 128 + the signal's number if a signal ended it.
    """
    process = subprocess.Popen(
        [sys.executable, "-P", __file__, *command],
        cwd=folder,
        env=environment,
        stdin=subprocess.PIPE,
        stdout=stdout,
        start_new_session=True,
    )
    try:
        with _stop_signals_raise():
            return process.wait()
    except BaseException:
        _end_group(process)
        raise
    finally:
        if process.stdin:
            process.stdin.close()


def own_programs_first() -> str:
    """PATH for child processes: this Python environment's programs come before others of the same name."""
    return f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"


@contextmanager
def _stop_signals_raise() -> Iterator[None]:
    """Let SIGTERM and SIGHUP end the wait, as Ctrl-C does; by default they would leave the command running alone.

    Existing handlers stay: Prefect uses its own to tell a cancelled run from a crashed one.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, _: FrameType | None) -> None:
        raise SystemExit(128 + number)

    unhandled = [n for n in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(n) is signal.SIG_DFL]
    for number in unhandled:
        signal.signal(number, stop)
    try:
        yield
    finally:
        for number in unhandled:
            signal.signal(number, signal.SIG_DFL)


def _end_group(process: "subprocess.Popen[bytes]") -> None:
    """Ask the whole group to end (the trainer then writes its checkpoint), and kill it after `GRACE_S` seconds."""
    try:
        os.killpg(process.pid, signal.SIGTERM)
        deadline = time.monotonic() + GRACE_S
        while time.monotonic() < deadline:
            process.poll()  # otherwise the dead leader would still count as a member of its group
            os.killpg(process.pid, 0)
            time.sleep(0.2)
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass  # all of it has ended


def lead_group() -> None:
    """Run the command that the arguments name; this process ends with its exit code."""
    # A signal to the group is meant for the command. The command does not inherit a handler, as it would an ignored
    # signal.
    signal.signal(signal.SIGTERM, lambda *_: None)
    process = subprocess.Popen(sys.argv[1:], stdin=subprocess.DEVNULL)
    is_alone = threading.Event()
    guard = threading.Thread(target=_end_when_alone, args=(is_alone,), daemon=True)
    guard.start()
    code = process.wait()
    if is_alone.is_set():
        guard.join()
    sys.exit(code if code >= 0 else 128 - code)


def _end_when_alone(is_alone: threading.Event) -> None:
    # Not sys.stdin: at exit Python would wait for the thread that reads it.
    while os.read(0, 4096):
        pass
    is_alone.set()
    os.killpg(0, signal.SIGTERM)
    time.sleep(GRACE_S)
    os.killpg(0, signal.SIGKILL)


if __name__ == "__main__":
    lead_group()
