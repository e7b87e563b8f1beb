"""The threads of a gthread worker. A slow visitor occupies none of them.

The thread that runs a view also sends the answer, so a few slow visitors would occupy all. Here one that may have to
wait for its visitor is replaced (config/wsgi.py): another thread takes requests in its place, with its open database
connections, and it takes none until it is needed. So as many views as before run at once, on as many connections.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import Executor, Future
from queue import SimpleQueue
from threading import Lock, Thread, local
from typing import Any

from django.db import connections
from django.db.backends.base.base import BaseDatabaseWrapper
from gunicorn.workers.gthread import ThreadWorker  # type: ignore[import-untyped]

# What the running thread belongs to.
_this = local()


class Threads(Executor):
    """Of which `number` take requests. The others each finish one, or are spare."""

    def __init__(self, number: int) -> None:
        self._number = number
        self._jobs: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        # For each thread that is to take requests: the connections that it begins with.
        self._places: SimpleQueue[Sequence[BaseDatabaseWrapper]] = SimpleQueue()
        self._spare = 0
        self._lock = Lock()
        for _ in range(number):
            self._fill_place()

    def submit(self, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> "Future[Any]":
        future: Future[Any] = Future()

        def job() -> None:
            try:
                future.set_result(function(*args, **kwargs))
            except BaseException as error:
                future.set_exception(error)

        self._jobs.put(job)
        return future

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """None takes another request. Those that work go on for as long as the process lives."""
        for _ in range(self._number):
            self._jobs.put(None)

    def replace_this_thread(self, kept: Sequence[BaseDatabaseWrapper]) -> None:
        """:param kept: connections for the new thread, of those that this one has"""
        for connection in kept:
            # Django lets only the thread that has made a connection use it.
            if not connection.allow_thread_sharing:
                connection.inc_thread_sharing()
            del connections[connection.alias]
        _this.pool = None
        self._fill_place(kept)

    def _fill_place(self, kept: Sequence[BaseDatabaseWrapper] = ()) -> None:
        self._places.put(kept)
        with self._lock:
            if self._spare:
                self._spare -= 1
                return
        Thread(target=self._work, daemon=True).start()

    def _work(self) -> None:
        while True:
            for connection in self._places.get():
                connections[connection.alias] = connection
            _this.pool = self
            while _this.pool is not None and (job := self._jobs.get()):
                job()
                del job
            # Those of a stream, which the new thread did not get.
            connections.close_all()
            with self._lock:
                self._spare += 1


def pool_of_this_thread() -> Threads | None:
    """None in any other thread, and in one that has been replaced."""
    return getattr(_this, "pool", None)


class Worker(ThreadWorker):  # type: ignore[misc]
    """gunicorn's, with these threads."""

    def get_thread_pool(self) -> Executor:
        return Threads(self.cfg.threads)
