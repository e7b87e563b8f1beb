"""Django's test runner, which also writes down what came of each test."""

import json
import os
import unittest
from pathlib import Path
from typing import Any

from django.test.runner import DiscoverRunner

outcomes: dict[str, str] = {}


def record(test: Any, outcome: str, error: Any = None) -> None:
    """Keeps a test's first outcome; a later failure replaces it. A subtest reports before its test does."""
    test_id = getattr(test, "test_case", test).id()
    before = outcomes.setdefault(test_id, outcome)
    if error is not None and not before.startswith("failed:"):
        outcomes[test_id] = outcome


def failure(error: Any) -> str:
    message = (str(error[1]).strip() or "no message").splitlines()[0]
    return f"failed: {error[0].__name__}: {message}"


class Result(unittest.TextTestResult):
    def addSuccess(self, test: Any) -> None:
        super().addSuccess(test)
        record(test, "passed")

    def addFailure(self, test: Any, err: Any) -> None:
        super().addFailure(test, err)
        record(test, failure(err), err)

    def addError(self, test: Any, err: Any) -> None:
        super().addError(test, err)
        record(test, failure(err), err)

    def addSubTest(self, test: Any, subtest: Any, err: Any) -> None:
        super().addSubTest(test, subtest, err)
        if err is not None:
            record(test, failure(err), err)

    def addSkip(self, test: Any, reason: str) -> None:
        super().addSkip(test, reason)
        record(test, reason if reason.startswith("left out") else "skipped")

    def addExpectedFailure(self, test: Any, err: Any) -> None:
        super().addExpectedFailure(test, err)
        record(test, "failed as Django expects")

    def addUnexpectedSuccess(self, test: Any) -> None:
        super().addUnexpectedSuccess(test)
        record(test, "passed, which Django does not expect")


class Runner(DiscoverRunner):
    def get_resultclass(self) -> type[Result]:
        return Result

    def run_suite(self, suite: Any, **kwargs: Any) -> Any:
        try:
            return super().run_suite(suite, **kwargs)
        finally:
            Path(f"/tmp/{os.environ['SUITE_NAME']}.json").write_text(json.dumps(outcomes, indent=1))
