"""In tests a replica is read only by those that name it in `databases`, with `manage.py test` and with pytest.

Django lets a test ask the databases that it names, and `default` is all that most do. They see what a site without
replicas shows: the rows that they have just made. Nothing here is imported where no tests run.
"""

from functools import cache, wraps
from typing import Any

from django.db import connections
from django.test import SimpleTestCase

from dbrouting.conf import config, only
from dbrouting.monitor import monitor


@cache
def follow_tests() -> None:
    """Each test class, from now on. pytest-django makes one for each test function.

    For the process and not for its connections: those of a live server's threads are not the test's.
    """
    # Django has no signal for it. setUpClass, databases and addClassCleanup are documented, in 5.2 as in 6.1.
    set_up = SimpleTestCase.__dict__["setUpClass"].__func__

    @wraps(set_up)
    def set_up_and_tell(cls: type[SimpleTestCase]) -> None:
        set_up(cls)
        named: Any = cls.databases
        before = _only(frozenset(connections if named == "__all__" else named))
        cls.addClassCleanup(_only, before)

    SimpleTestCase.setUpClass = classmethod(set_up_and_tell)  # type: ignore[assignment]


def _only(named: frozenset[str] | None) -> frozenset[str] | None:
    replicas = config().REPLICAS
    before = only(named)
    # It knows just the replicas with which it has begun.
    if replicas != config().REPLICAS:
        monitor.reset()
    return before
