"""What a request has done so far, as far as it decides where its reads may go."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass


@dataclass
class ConsistencyContext:
    """Mutable on purpose: a child task gets a copy of the context variable, and must see the same object."""

    # A safe method (GET, HEAD, OPTIONS, TRACE) is expected to read only.
    safe: bool = True
    # Something was written: from here on a replica may be behind what this request knows.
    dirty: bool = False
    # The replica that serves this request: two replicas would show it two states.
    replica: str | None = None


_current: ContextVar[ConsistencyContext | None] = ContextVar("dbrouting_context", default=None)


def current_context() -> ConsistencyContext | None:
    """The running request's context; None outside of one (a command, a shell, a test without a client)."""
    return _current.get()


@contextmanager
def consistency_context(*, safe: bool = True) -> Iterator[ConsistencyContext]:
    """Reads inside may go to a replica until something is written."""
    context = ConsistencyContext(safe=safe)
    token = _current.set(context)
    try:
        yield context
    finally:
        _current.reset(token)
