"""What a visitor may be shown: the context of a request, and the functions by which code speaks to the router."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field

from dbrouting.conf import config
from dbrouting.monitor import Sample
from dbrouting.tokens import SessionToken, parse, primary_token


@dataclass
class Answers:
    """What one database has answered in a context: to be shown, nothing is decided by it.

    :param count: statements
    :param why: the first reason to ask it; none if the code names it
    """

    alias: str
    count: int = 0
    why: str = ""

    @property
    def is_primary(self) -> bool:
        return self.alias == config().PRIMARY


@dataclass
class ConsistencyContext:
    """One visitor's unit of work. Mutable on purpose: a child task gets a copy of the context variable, and must see
    the same object.

    :param safe: whether reading only is to be expected; otherwise everything happens on the primary
    :param tokens: what the visitor has seen and written before: a replica must satisfy them all
    """

    safe: bool = True
    tokens: tuple[SessionToken, ...] = ()
    # The primary was asked something. From then on a replica may be behind what this context knows.
    touched: bool = False
    # Something may have been written.
    wrote: bool = False
    # By it this context chose its replica; two replicas would show it two states.
    proof: Sample | None = None
    # By alias, in the order in which they were asked first.
    answers: dict[str, Answers] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def answers_of(self, alias: str, why: str = "") -> Answers:
        answers = self.answers.setdefault(alias, Answers(alias))
        answers.why = answers.why or why
        return answers

    def choose(self, candidates: list[Sample]) -> Sample | None:
        """The first candidate that satisfies all tokens, for good: whatever threads ask at once get the same."""
        with self._lock:
            if self.proof is None:
                able = (replica for replica in candidates if all(token.satisfied_by(replica) for token in self.tokens))
                self.proof = next(able, None)
            return self.proof

    def token(self) -> SessionToken | None:
        """What the next context must satisfy to show nothing older than this one did; a round trip to the primary if
        that was asked anything. None if neither that nor a replica was.
        """
        if self.touched or self.wrote:
            return primary_token()
        if self.proof is None:
            return None
        seen = max((token.lsn for token in self.tokens), default=0)
        return SessionToken(self.proof.system, self.proof.timeline, seen, (self.proof.alias, self.proof.incarnation))


@dataclass
class Override:
    """:param max_staleness: seconds, for a replica; None stands for the primary"""

    max_staleness: float | None
    # By which the replica was chosen that serves.
    proof: Sample | None = None


_context: ContextVar[ConsistencyContext | None] = ContextVar("dbrouting_context", default=None)
_override: ContextVar[Override | None] = ContextVar("dbrouting_override", default=None)


def current_context() -> ConsistencyContext | None:
    """The running request's context; None outside of one (a command, a new thread), where the primary is read."""
    return _context.get()


def current_override() -> Override | None:
    return _override.get()


@contextmanager
def consistency_context(*, safe: bool = True, tokens: tuple[SessionToken, ...] = ()) -> Iterator[ConsistencyContext]:
    """Reads inside may go to a replica that satisfies the tokens, until the primary is asked something."""
    context = ConsistencyContext(safe=safe, tokens=tokens)
    entered = _context.set(context)
    try:
        yield context
    finally:
        _context.reset(entered)
        # A task that is run at once, inside a request: what it wrote, the request's visitor has written.
        if (outer := _context.get()) is not None:
            outer.touched, outer.wrote = outer.touched or context.touched, outer.wrote or context.wrote


@contextmanager
def with_token(token: str | None) -> Iterator[ConsistencyContext]:
    """A context that sees at least what `current_token()` saw where it was taken: for threads and background tasks.

    However old the token is, since a task may wait for long. One that was not made here demands nothing; None stands
    for no token.
    """
    parsed = parse(token) if token else None
    with consistency_context(tokens=(parsed,) if parsed else ()) as context:
        yield context


def current_token() -> str:
    """Signed, for `with_token` in a thread or background task, or for the request header. One round trip to the
    primary, unless this context has only read a replica.

    Inside `atomic()` what it stands for is not committed yet. Its holder then reads the primary; better ask for it in
    `transaction.on_commit`.
    """
    context = _context.get()
    token = (context.token() if context else None) or primary_token()
    return token.sign()


@contextmanager
def use_primary() -> Iterator[None]:
    """Reads inside go to the primary, and with them this context's later ones."""
    yield from _overriding(Override(None))


@contextmanager
def use_replica(*, max_staleness: float) -> Iterator[None]:
    """Reads inside may be `max_staleness` seconds old, own writes included; the primary serves if no replica can."""
    yield from _overriding(Override(max_staleness))


def _overriding(override: Override) -> Iterator[None]:
    entered = _override.set(override)
    try:
        yield
    finally:
        _override.reset(entered)


def mark_write() -> None:
    """For a write that the router cannot see: by another alias or service, COPY, callproc(), a function in a SELECT."""
    if (context := _context.get()) is not None:
        context.touched = context.wrote = True


def replica_in_use(alias: str) -> Sample | None:
    """The proof on which a read of this alias rests, if the router has chosen it."""
    context, override = _context.get(), _override.get()
    proof = override.proof if override else context.proof if context else None
    return proof if proof and proof.alias == alias else None


def has_moved_on() -> bool:
    """Whether the current context has asked the primary, and has not said by `use_replica()` that less will do."""
    context = _context.get()
    return context is not None and context.touched and _override.get() is None
