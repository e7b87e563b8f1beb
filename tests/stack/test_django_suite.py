"""Those of Django's own tests that a database backend can break. All of them, and more configurations: make django-suite."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.django_suite.suite import PLAIN, complaints, expected_differences, running

CONFIGURATION = "persistent-transaction-prepared"
SELECTION = [
    "aggregation",
    "backends",
    "bulk_create",
    "get_or_create",
    "multiple_database",
    "postgres_tests",
    "queries.test_bulk_update",
    "queries.test_iterator",
    "select_for_update",
    "transaction_hooks",
    "transactions",
]


@pytest.mark.timeout(1800)
def test_djangos_own_tests_give_what_they_give_without_the_template(tmp_path: Path) -> None:
    with running("6.1", tmp_path) as suite, ThreadPoolExecutor(2) as both:
        plain, found = both.map(lambda name: suite.run(name, SELECTION), (PLAIN, CONFIGURATION))
    assert len(plain) > 1000
    assert complaints(plain, found, expected_differences("6.1", CONFIGURATION)) == []
