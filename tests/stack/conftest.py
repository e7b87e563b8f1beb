"""The Docker tier: the real `docker compose up` of generated projects."""

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.stack.stack import Stack

REMEDY = (
    "no Docker Engine answers: install one, or on Debian as root run tests/engine/install and tests/base_images/build"
)


def engine_answers() -> bool:
    return shutil.which("docker") is not None and all(
        subprocess.run(command, capture_output=True).returncode == 0
        for command in (["docker", "compose", "version"], ["docker", "info"])
    )


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    mine = [item for item in items if Path(__file__).parent in item.path.parents]
    if not mine:
        return
    missing = not engine_answers()
    if missing and os.environ.get("REQUIRE_DOCKER"):
        pytest.exit(f"REQUIRE_DOCKER is set, and {REMEDY}", returncode=1)
    for item in mine:
        if missing:
            item.add_marker(pytest.mark.skip(reason=REMEDY))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Says what the Docker tier ran on."""
    if not any("tests/stack/" in report.nodeid for report in terminalreporter.getreports("passed")):
        return
    command = [
        "docker",
        "image",
        "ls",
        "--filter",
        "label=pgstack.stand-in=true",
        "--format",
        "{{.Repository}}:{{.Tag}}",
    ]
    labelled = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    # What is built on a stand-in inherits its label.
    stand_ins = sorted(image for image in labelled if image.startswith(("postgres:", "python:")))
    made = f"stand-ins made from Debian packages: {', '.join(stand_ins)}" if stand_ins else "the official ones"
    terminalreporter.write_line(f"base images: {made}")


@pytest.fixture(scope="module")
def make_stack(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., "contextmanager[Stack]"]:
    """A context manager that generates a project, and leaves no container, volume or network behind."""

    @contextmanager
    def make(**answers: str) -> Iterator[Stack]:
        stack = Stack(tmp_path_factory.mktemp("stack"), **answers)
        try:
            yield stack
        except BaseException:
            print(stack.compose("logs", "--tail", "60", check=False).stdout[-20_000:])
            raise
        finally:
            stack.down()

    return make


@pytest.fixture(scope="module")
def default_stack(make_stack: Callable[..., "contextmanager[Stack]"]) -> Iterator[Stack]:
    """The default answers, running."""
    with make_stack() as stack:
        stack.up()
        yield stack
