"""A stack that the tests of restarts, edits and secrets share: each leaves it as it was."""

from collections.abc import Iterator

import pytest

from tests.conftest import MakeStack
from tests.stack.stack import Stack
from tests.waiting import eventually

KEPT = "survives"


@pytest.fixture(scope="session")
def lived_in_stack(make_stack: MakeStack) -> Iterator[Stack]:
    """With a row that every test must leave on every node."""
    with make_stack() as stack:
        stack.up()
        stack.comment(KEPT)
        yield stack


@pytest.fixture
def the_row_survives(lived_in_stack: Stack) -> Iterator[None]:
    yield
    lived_in_stack.assert_whole(comment=KEPT)
    eventually(lived_in_stack.ready)
