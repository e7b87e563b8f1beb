"""Ends what a devstack has started, if that is killed before it could.

usage: python -m ops.guard, which reads lines from its standard input:

    started PID    the leader of a process group that runs now
    stopped PID    it does not any more
    remove PATH    a file or directory that must not outlive the devstack

Only the devstack has the other end of the pipe. However it ends, the system closes that: then the guard stops what
still runs, removes those paths, and ends.
"""

import os
import shutil
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path

# Seconds.
PATIENCE = 30.0


def is_there(target: int) -> bool:
    """Whether a process has this id, or is of this group if it is negative."""
    try:
        os.kill(target, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def main() -> None:
    # Without those that have stopped: the system may have given their numbers to other processes.
    running: list[int] = []
    paths: list[Path] = []
    for line in sys.stdin:
        word, _, value = line.rstrip("\n").partition(" ")
        if word == "started":
            running.append(int(value))
        elif word == "stopped":
            running.remove(int(value))
        else:
            paths.append(Path(value))
    for leader in running:
        with suppress(ProcessLookupError):
            os.kill(leader, signal.SIGINT)
    deadline = time.monotonic() + PATIENCE
    while any(map(is_there, running)) and time.monotonic() < deadline:
        time.sleep(0.1)
    for leader in running:
        with suppress(ProcessLookupError):
            os.killpg(leader, signal.SIGKILL)
    for path in paths:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


if __name__ == "__main__":
    main()
