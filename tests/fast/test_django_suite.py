"""How Django's outcomes are compared; tests/stack runs it on real ones."""

from tests.django_suite.suite import complaints

PLAIN = {"a.test_1": "passed", "a.test_2": "passed", "a.test_3": "skipped"}
EXPECTED = [{"tests": ["a.test_2"], "outcome": "failed"}]


def test_a_difference_that_is_expected_is_no_complaint() -> None:
    assert complaints(PLAIN, PLAIN | {"a.test_2": "failed: Error: no"}, EXPECTED) == []


def test_another_difference_is_named_with_both_outcomes() -> None:
    found = PLAIN | {"a.test_1": "failed: Error: no", "a.test_2": "failed: Error: no"}
    assert complaints(PLAIN, found, EXPECTED) == ["a.test_1: passed in plain Django, here failed: Error: no"]


def test_a_test_that_is_not_run_is_a_difference() -> None:
    found = {"a.test_1": "passed", "a.test_2": "failed: Error: no"}
    assert complaints(PLAIN, found, EXPECTED) == ["a.test_3: skipped in plain Django, here not run"]


def test_another_outcome_than_the_expected_is_named() -> None:
    first, second = complaints(PLAIN, PLAIN | {"a.test_2": "skipped"}, EXPECTED)
    assert first == "a.test_2: passed in plain Django, here skipped"
    assert second.startswith("a.test_2: expected.toml says 'failed'")


def test_an_expected_difference_that_is_gone_is_named() -> None:
    (line,) = complaints(PLAIN, PLAIN, EXPECTED)
    assert line.startswith("a.test_2: expected.toml says 'failed'")


def test_what_was_not_run_in_plain_django_either_is_not_asked_for() -> None:
    assert complaints({"b.test": "passed"}, {"b.test": "passed"}, EXPECTED) == []


def test_after_a_whole_run_it_is_asked_for() -> None:
    assert len(complaints({"b.test": "passed"}, {"b.test": "passed"}, EXPECTED, whole=True)) == 1
