"""Run a command, and end all its processes once the calling process is gone: `python group_leader.py COMMAND …`.

A killed process can't end its children, and those of DVC outlive it. This program leads their process group and holds
one end of a pipe: its standard input ends when the calling process dies, however it dies. It imports nothing of the
project, because the checkout in the working folder may be at another commit.
"""

import os
import signal
import subprocess
import sys
import threading
import time

GRACE_S = 20.0
"""Seconds in which the trainer can write its checkpoint; Prefect kills a cancelled flow 30 s after its first signal."""


def main() -> None:
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
    main()
