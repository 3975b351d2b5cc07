"""Runs a command, and ends all that it started once whoever asked for it is gone: `python group_leader.py COMMAND …`.

A killed process can't end its children, and DVC's outlive it. This program leads their process group and holds one end
of a pipe: its standard input ends when the process that asked dies, however it dies. It imports nothing of the project,
whose checkout at hand may be another.
"""

import os
import signal
import subprocess
import sys
import threading
import time

GRACE_S = 20.0
"""For the trainer to write its checkpoint; Prefect kills a cancelled flow 30 s after it told it to end."""


def main() -> None:
    """Run the command of the command line; its exit code is this process's."""
    # Whoever ends the group means the command; unlike an ignored signal, a handler is not passed on to it.
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
    # Not sys.stdin: at exit Python waits for whoever reads it.
    while os.read(0, 4096):
        pass
    is_alone.set()
    os.killpg(0, signal.SIGTERM)
    time.sleep(GRACE_S)
    os.killpg(0, signal.SIGKILL)


if __name__ == "__main__":
    main()
