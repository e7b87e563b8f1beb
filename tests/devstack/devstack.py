"""`manage.py devstack` and a browser, as a test drives them."""

import os
import re
import select
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from selenium import webdriver


def manage(project: Path, *arguments: str) -> str:
    done = subprocess.run([".venv/bin/python", "manage.py", *arguments], cwd=project, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


class Devstack:
    """`manage.py devstack` in a terminal."""

    def __init__(self, project: Path) -> None:
        self.output = ""
        # Its own group, as a terminal gives each command: Ctrl-C goes to the whole group.
        self.process = subprocess.Popen(
            [".venv/bin/python", "manage.py", "devstack"],
            cwd=project,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        self.url = self.wait_for(r"The site: (\S+)/ ")

    def wait_for(self, pattern: str, patience: float = 60.0) -> str:
        assert self.process.stdout
        deadline = time.monotonic() + patience
        while not (found := re.search(pattern, self.output)):
            assert time.monotonic() < deadline and self.process.poll() is None, self.output
            if select.select([self.process.stdout], [], [], 0.2)[0]:
                self.output += os.read(self.process.stdout.fileno(), 65536).decode()
        return found[1]

    def ctrl_c(self) -> int:
        os.killpg(self.process.pid, signal.SIGINT)
        status = self.process.wait(timeout=60)
        assert self.process.stdout
        self.output += self.process.stdout.read().decode()
        return status


@contextmanager
def devstack(project: Path) -> Iterator[Devstack]:
    stack = Devstack(project)
    try:
        yield stack
    finally:
        if stack.process.poll() is None:
            assert stack.ctrl_c() == 0, stack.output


def servers(project: Path) -> list[str]:
    """The command lines of what runs for this project: its scripts, and the servers on its data."""
    found = subprocess.run(
        ["ps", "-eo", "pid,args", "-ww"], capture_output=True, text=True, check=True
    ).stdout.splitlines()
    ours = [f"{project}/{part}" for part in (".devstack", "postgres", "pgbouncer")]
    return [line for line in found if any(part in line for part in ours)]


@contextmanager
def browser() -> Iterator[webdriver.Chrome]:
    """Headless Chromium, 380 pixels wide, as on a phone."""
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not (chromium and driver):
        skip = pytest.fail if os.environ.get("CI") else pytest.skip
        skip("no browser: on Debian, apt-get install chromium chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    # The last three keep it from asking for anything but the page. A container's root has no sandbox.
    for argument in ("headless", "no-sandbox", "disable-gpu", "window-size=380,800"):
        options.add_argument(f"--{argument}")
    for argument in ("disable-background-networking", "disable-component-update", "disable-sync"):
        options.add_argument(f"--{argument}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    opened = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    try:
        yield opened
    finally:
        opened.quit()
