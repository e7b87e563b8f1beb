"""`docker compose config`: the profiles run just the replicas that .env asks for."""

import json
from pathlib import Path

import pytest

from tests.baking import SELECTION, bake
from tests.stack.stack import run


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return bake(tmp_path_factory.mktemp("config"))


@pytest.mark.parametrize("answers", SELECTION, ids=lambda answers: "-".join(answers.values()))
def test_compose_takes_it(project: Path, tmp_path: Path, answers: dict[str, str]) -> None:
    env = bake(tmp_path, **answers) / ".env"
    done = run("docker", "compose", "--env-file", str(env), "config", "--format", "json", cwd=project)
    assert done.stderr == ""
    services = json.loads(done.stdout)["services"]
    replicas = {name for name in services if name.startswith("replica-")}
    assert replicas == {f"replica-{number}" for number in range(1, int(answers["replicas"]) + 1)}
    assert services["primary"]["image"] == f"postgres:{answers['postgres_version']}-trixie"


def test_the_longest_slug_makes_valid_names(tmp_path: Path) -> None:
    run("docker", "compose", "config", "--quiet", cwd=bake(tmp_path, project_slug="a" * 63))
