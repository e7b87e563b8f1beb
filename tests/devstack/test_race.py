"""No figure of the race outlives its code: each published measure is taken again, in phases of a second."""

from collections import defaultdict
from collections.abc import Callable
from math import isnan
from pathlib import Path

from benchmarks.race import report
from benchmarks.race.__main__ import race


def test_the_race_gives_each_router_a_number_for_each_measure(
    make_project: Callable[..., Path], tmp_path: Path
) -> None:
    project = make_project("race_site", replicas="2")
    results = report.Results(race(project, tmp_path, rounds=1, seconds=1))
    for router in report.ROUTERS:
        taken: dict[str, list[float]] = defaultdict(list)
        for measure in report.MEASURES:
            (number,) = results.values(measure, router)
            taken[measure.title].append(number)
        # In a second perhaps nobody comments or logs in.
        assert [title for title, numbers in taken.items() if all(map(isnan, numbers))] == []
