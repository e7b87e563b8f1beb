"""`docker compose config`: the profiles run just the replicas that .env asks for."""

import json
import re
from pathlib import Path

import pytest

from tests.baking import SELECTION, bake, edit_env
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
    assert services["primary"]["build"]["args"] == {"POSTGRES_VERSION": answers["postgres_version"]}


@pytest.mark.parametrize("by", ["shell", "--env-file", ".env"])
def test_a_choice_is_the_same_for_every_service(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, by: str
) -> None:
    """Wherever compose takes it from."""
    options = []
    if by == "shell":
        monkeypatch.setenv("POOL_MODE", "session")
    elif by == "--env-file":
        other = bake(tmp_path, pool_mode="session") / ".env"
        options = ["--env-file", str(other.rename(tmp_path / ".env.prod"))]
    else:
        edit_env(project, POOL_MODE="session")
    config = run("docker", "compose", *options, "--profile", "*", "config", "--format", "json", cwd=project).stdout
    edit_env(project, POOL_MODE="transaction")
    services = json.loads(config)["services"]
    given = {name: service.get("environment", {}) for name, service in services.items()}
    given["choices"] = services["choices"]["build"]["args"]
    found = {name: variables["POOL_MODE"] for name, variables in given.items() if "POOL_MODE" in variables}
    assert found == dict.fromkeys(["choices", "migrate", "pgbouncer", "test", "web", "worker"], "session")


def test_compose_hands_on_each_choice(project: Path) -> None:
    """One that stands in .env and in no service would have no effect."""
    compose = "".join((project / file).read_text() for file in ("compose.yaml", "compose.dev.yaml"))
    choices = re.findall(r"^(\w+)=", (project / ".env").read_text(), flags=re.MULTILINE)
    assert len(choices) > 20
    assert [name for name in choices if not re.search(rf"\$\{{{name}:?\?\}}", compose)] == ["COMPOSE_PROFILES"]


def test_the_longest_slug_makes_valid_names(tmp_path: Path) -> None:
    run("docker", "compose", "config", "--quiet", cwd=bake(tmp_path, project_slug="a" * 63))
