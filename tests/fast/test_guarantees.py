"""tests/GUARANTEES.md names tests that exist, and no test of a running stack is missing there."""

import re

from tests.baking import TEMPLATE

TESTS = TEMPLATE / "tests"
PAGE = (TESTS / "GUARANTEES.md").read_text()
RUNNING = ("devstack", "stack", "torture")


def named() -> set[tuple[str, str]]:
    """(file, test). A name without a file belongs to the file before it in its row."""
    found = set()
    for row in PAGE.splitlines():
        file = ""
        for path, test in re.findall(r"`([\w/.]*)::(\w+)`", row):
            file = path or file
            found.add((file, test))
    return found


def existing(*tiers: str) -> set[tuple[str, str]]:
    return {
        (str(path.relative_to(TESTS)), test)
        for tier in tiers
        for path in (TESTS / tier).glob("test_*.py")
        for test in re.findall(r"^def (test_\w+)", path.read_text(), flags=re.MULTILINE)
    }


def test_each_test_named_exists() -> None:
    assert named() - existing("fast", *RUNNING) == set()


def test_each_test_of_a_running_stack_is_named() -> None:
    assert existing(*RUNNING) - named() == set()
