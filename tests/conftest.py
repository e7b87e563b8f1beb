"""What the tiers share: compose stacks, and what a failed test shows of them."""

import os
import secrets
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from itertools import count
from pathlib import Path

import pytest

from tests.stack.stack import Stack, docker

MakeStack = Callable[..., AbstractContextManager[Stack]]
NEED_DOCKER = ("stack", "torture")
REMEDY = (
    "no Docker Engine answers: install one, or on Debian as root run tests/engine/install and tests/base_images/build"
)


def engine_answers() -> bool:
    return shutil.which("docker") is not None and all(
        subprocess.run(command, capture_output=True).returncode == 0
        for command in (["docker", "compose", "version"], ["docker", "info"])
    )


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    tiers = [Path(__file__).parent / tier for tier in NEED_DOCKER]
    mine = [item for item in items if any(tier in item.path.parents for tier in tiers)]
    if not mine or engine_answers():
        return
    if os.environ.get("REQUIRE_DOCKER"):
        pytest.exit(f"REQUIRE_DOCKER is set, and {REMEDY}", returncode=1)
    for item in mine:
        item.add_marker(pytest.mark.skip(reason=REMEDY))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Iterator[None]:
    """A failed test shows the states of its stack's containers and the ends of their logs."""
    report = yield
    if report.failed:
        values = [value for value in getattr(item, "funcargs", {}).values() if isinstance(value, Stack)]
        for stack in {id(value): value for value in values}.values():
            report.sections.append((f"containers of {stack.slug}", stack.state()))
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Says which base images the Docker tier ran on."""
    if not any(report.nodeid.startswith("tests/stack/") for report in terminalreporter.getreports("passed")):
        return
    labelled = docker("image", "ls", "--filter", "label=pgstack.stand-in", "--format", "{{.Repository}}:{{.Tag}}")
    # What is built on a stand-in inherits its label.
    stand_ins = sorted(image for image in labelled.split() if image.startswith(("debian:", "postgres:", "python:")))
    made = f"stand-ins made from Debian packages: {', '.join(stand_ins)}" if stand_ins else "the official ones"
    terminalreporter.write_line(f"base images: {made}")


@pytest.fixture(scope="session")
def slugs() -> Iterator[str]:
    """Names of this process alone, so that two runs on one engine do not meet."""
    run = secrets.token_hex(3)
    return (f"pgstack_{run}_{number}" for number in count(1))


@pytest.fixture(scope="session")
def images(slugs: Iterator[str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The slug whose images every stack of this process uses. No answer changes what is in them."""
    builder = Stack(tmp_path_factory.mktemp("images"), next(slugs))
    builder.compose("build", "web", "pgbouncer", "primary")
    yield builder.slug
    builder.down()


@pytest.fixture(scope="session")
def make_stack(images: str, slugs: Iterator[str], tmp_path_factory: pytest.TempPathFactory) -> MakeStack:
    """A context manager that generates a project and starts nothing. It leaves no container, volume or network behind."""

    @contextmanager
    def make(**answers: str) -> Iterator[Stack]:
        stack = Stack(tmp_path_factory.mktemp("stack"), next(slugs), images=images, **answers)
        try:
            yield stack
        except BaseException:
            print(stack.state())
            raise
        finally:
            stack.down()

    return make


@pytest.fixture(scope="session")
def default_stack(make_stack: MakeStack) -> Iterator[Stack]:
    """The default answers, running, with articles. A test that changes it puts it back."""
    with make_stack() as stack:
        stack.up()
        stack.an_article()
        yield stack
