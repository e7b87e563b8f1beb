"""How a test waits: for a condition, never for a time."""

import time
from collections.abc import Callable
from typing import TypeVar

Answer = TypeVar("Answer")


def eventually(condition: Callable[[], Answer], patience: float = 60.0) -> Answer:
    """Waits for a truthy answer and returns it; fails with the last one."""
    deadline = time.monotonic() + patience
    while not (answer := condition()):
        assert time.monotonic() < deadline, f"still {answer!r} after {patience:g} s"
        time.sleep(0.1)
    return answer
