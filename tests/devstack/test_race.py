"""No figure of the race outlives its code: each published measure is taken again, in phases of a second."""

import subprocess
import sys
from collections import defaultdict
from math import isnan
from pathlib import Path

import pytest

from benchmarks.race import report
from benchmarks.race.__main__ import race
from tests.baking import bake


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    project = bake(tmp_path_factory.mktemp("race"), project_slug="race_site", replicas="2")
    subprocess.run(["make", ".venv/installed", f"PYTHON={sys.executable}"], cwd=project, check=True)
    return project


def test_the_race_gives_each_router_a_number_for_each_measure(project: Path, tmp_path: Path) -> None:
    results = report.Results(race(project, tmp_path, rounds=1, seconds=1))
    for router in report.ROUTERS:
        taken: dict[str, list[float]] = defaultdict(list)
        for measure in report.MEASURES:
            (number,) = results.values(measure, router)
            taken[measure.title].append(number)
        # In a second perhaps nobody comments or logs in.
        assert [title for title, numbers in taken.items() if all(map(isnan, numbers))] == []
