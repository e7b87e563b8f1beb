"""Tests wait for conditions, never for a time."""

import time
from collections.abc import Callable
from typing import TypeVar

Answer = TypeVar("Answer")


def eventually(condition: Callable[[], Answer], patience: float = 60.0) -> Answer:
    """Asks until the answer is truthy, and returns it. The limit is generous: only a condition that never comes meets it.

    :param patience: seconds
    :raises AssertionError: at the limit, with the last answer
    """
    deadline = time.monotonic() + patience
    while not (answer := condition()):
        assert time.monotonic() < deadline, f"still {answer!r} after {patience:g} s"
        time.sleep(0.1)
    return answer
