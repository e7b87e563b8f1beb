"""`docker compose config` of a pairwise selection, and that the profile runs just the replicas that were asked for."""

import json
import subprocess
from pathlib import Path

import pytest

from tests.baking import bake
from tests.fast.test_lint import SELECTION


@pytest.mark.parametrize("answers", SELECTION, ids=lambda answers: "-".join(answers.values()))
def test_compose_takes_it(tmp_path: Path, answers: dict[str, str]) -> None:
    project = bake(tmp_path, **answers)
    done = subprocess.run(
        ["docker", "compose", "config", "--format", "json"], cwd=project, capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")
    services = json.loads(done.stdout)["services"]
    replicas = {name for name in services if name.startswith("replica-")}
    assert replicas == {f"replica-{number}" for number in range(1, int(answers["replicas"]) + 1)}
    assert services["primary"]["image"] == f"postgres:{answers['postgres_version']}-trixie"


def test_the_longest_slug_makes_valid_names(tmp_path: Path) -> None:
    project = bake(tmp_path, project_slug="a" * 63)
    subprocess.run(["docker", "compose", "config", "--quiet"], cwd=project, check=True)
