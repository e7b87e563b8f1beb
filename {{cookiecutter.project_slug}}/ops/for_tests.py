"""Tests need a primary and a replica. `pytest` and `manage.py test` find the devstack that runs, or start one."""

import os
import sys
from pathlib import Path

BASE_DIR = Path(__file__).resolve().parent.parent
# Set where tests can run. Set it yourself where DATABASE_URL names a server that may be tested with.
INSIDE = "DEVSTACK_FOR_TESTS"
# The file in .devstack/ that tells tests where a running devstack is.
RUNNING = "for_tests"


def run_inside_devstack(command: list[str]) -> None:
    """Goes on as `command`, with the servers that it needs. Where they are there it does nothing."""
    if os.environ.get(INSIDE):
        return
    running = BASE_DIR / ".devstack" / RUNNING
    if running.is_file():
        for line in running.read_text().splitlines():
            name, _, value = line.partition("=")
            os.environ[name] = value
    else:
        command = [sys.executable, str(BASE_DIR / "manage.py"), "devstack", "--for-tests", "--", *command]
    sys.stdout.flush()
    os.execv(command[0], command)
