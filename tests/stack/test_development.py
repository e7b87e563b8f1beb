"""To develop with Docker alone."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import psycopg
import pytest
import requests

from tests.baking import edit, free_port
from tests.browser import browser
from tests.conftest import MakeStack
from tests.first_hour import LIVE, SIZE, Steps, add_package, first_hour, size
from tests.stack.stack import Stack, docker
from tests.waiting import eventually

# Whoever develops; not root, and not the one that images mostly have.
PERSON = 1234
DEV = ["-f", "compose.yaml", "-f", "compose.dev.yaml"]


@pytest.fixture
def person(tmp_path: Path) -> Path:
    """A PATH with Docker and hardly anything else, on which one is the person."""
    for program in ("docker", "make", "sed", "sh"):
        (tmp_path / program).symlink_to(str(shutil.which(program)))
    (tmp_path / "id").write_text(f"#!/bin/sh\necho {PERSON}\n")
    (tmp_path / "id").chmod(0o755)
    return tmp_path


def test_the_first_hour(make_stack: MakeStack, person: Path) -> None:
    with make_stack() as stack:
        stack.edit_env(POSTGRES_PORT=str(free_port()), PGBOUNCER_PORT=str(free_port()))
        subprocess.run(["chown", "-R", f"{PERSON}:{PERSON}", stack.project], check=True)
        command = made(stack, "dev")
        assert f"DEV_UID=$(id -u) DEV_GID=$(id -g) docker compose {' '.join(DEV)} up --build" in command
        (stack.project / ".env").open("a").write(f"DEV_UID={PERSON}\nDEV_GID={PERSON}\n")
        stack.compose(*DEV, "up", "--build", "--detach", "--wait")

        def run(*command: str, **environment: str) -> str:
            done = stack.attempt("web", *command, **environment)
            return done.stdout + done.stderr

        picture = first_hour(stack.project, stack.url("").rstrip("/"), run, lambda: stack.logs("web"))
        steps = Steps()
        assert (stack.project / "media" / "things" / "box.png").stat().st_uid == PERSON
        ours = [path for path in (stack.project / "shop").rglob("*") if path.is_file() and path.stat().st_uid == PERSON]
        assert stack.project / "shop" / "migrations" / "0001_initial.py" in ours
        for port, role in (("POSTGRES_PORT", "owner"), ("PGBOUNCER_PORT", "app")):
            url = f"postgresql://{role}@127.0.0.1:{stack.env(port)}/{stack.slug}"
            with psycopg.connect(url, password=stack.secret(f"{role}_password")) as connection:
                assert connection.execute("SELECT count(*) FROM shop_thing").fetchone() == (1,)
        psql = made(stack, "psql").replace("docker compose exec", "docker compose exec -T")
        done = subprocess.run(
            ["sh", "-c", psql], cwd=stack.project, input="SELECT current_user", capture_output=True, text=True
        )
        assert "owner" in done.stdout, done.stderr
        steps.done("make psql")

        if LIVE:
            add_package(stack.project, "pillow")
            make(stack, person, "lock")
            steps.done("make lock")
        stack.compose(*DEV, "stop")
        steps.done("Ctrl-C")
        stack.compose(*DEV, "up", "--build", "--detach", "--wait")
        steps.done("make dev")
        with browser() as window:
            assert size(window, stack.url(picture)) == SIZE
        steps.done("see the picture")
        if LIVE:
            assert run("python", "-c", "import PIL; print('imported')") == "imported\n"

        # The site as it is served, again.
        edit(stack.project / "config" / "settings.py", '    "shop",\n', "")
        urls = stack.project / "config" / "urls.py"
        urls.write_text(re.sub(r".*(shop|things).*\n", "", urls.read_text()))
        stack.up("--build")
        eventually(stack.ready)
        assert stack.inspect("web")["Config"]["Cmd"][0] == "gunicorn"


def test_an_editor_opens_the_container(make_stack: MakeStack) -> None:
    """From a clone, by what devcontainer.json says, as its tools do it (there is none of them here)."""
    with make_stack() as stack:
        stack.edit_env(POSTGRES_PORT=str(free_port()), PGBOUNCER_PORT=str(free_port()))
        (stack.project / ".env").replace(stack.project / ".env.example")
        shutil.rmtree(stack.project / "secrets")
        directory = stack.project / ".devcontainer"
        said = json.loads((directory / "devcontainer.json").read_text())
        subprocess.run(said["initializeCommand"], shell=True, cwd=stack.project, check=True)
        subprocess.run(["chown", "-R", f"{PERSON}:{PERSON}", stack.project], check=True)
        (stack.project / ".env").open("a").write(f"DEV_UID={PERSON}\nDEV_GID={PERSON}\n")
        files = [part for file in said["dockerComposeFile"] for part in ("-f", str((directory / file).resolve()))]
        stack.compose(*files, "up", "--build", "--detach", "--wait")
        # They give its number to the user of the image, which is a name, then.
        assert stack.inspect(said["service"])["Config"]["User"] == said["remoteUser"] == "dev"

        # They mend /etc/profile by this, and install themselves in the home of the user.
        path = r"sed -i -E 's/((^|\s)PATH=)([^\$]*)$/\1${PATH:-\3}/g' /etc/profile"
        docker("exec", "--user", "root", stack.container(said["service"]), "sh", "-c", path)
        terminal = ["exec", "--workdir", said["workspaceFolder"], stack.container(said["service"]), "bash", "-lc"]
        install = "mkdir ~/.vscode-server && cp /bin/true ~/.vscode-server/editor && ~/.vscode-server/editor"
        printed = docker(*terminal, f"{install} && git init --quiet && touch made && python manage.py check")
        assert "no issues" in printed
        assert (stack.project / "made").stat().st_uid == PERSON
        # What a form's origin is in Codespaces.
        visitor = requests.Session()
        visitor.headers["Origin"] = "https://localhost:8000"
        assert "Error: Log in" in submit(visitor, stack.url("/admin/login/"), username="a", password="b")


def submit(visitor: requests.Session, url: str, **fields: str) -> str:
    """The page that follows on a form."""
    token = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', visitor.get(url).text)
    assert token
    return visitor.post(url, data={"csrfmiddlewaretoken": token[1], **fields}).text


@pytest.mark.parametrize("live", [False, pytest.param(True, marks=pytest.mark.skipif(not LIVE, reason="LIVE_INDEX=0"))])
def test_docker_is_all_that_setup_and_lock_need(make_stack: MakeStack, person: Path, live: bool) -> None:
    with make_stack() as stack:
        shutil.rmtree(stack.project / "secrets")
        subprocess.run(["chown", "-R", f"{PERSON}:{PERSON}", stack.project], check=True)
        # In the lock for development it is already.
        add_package(stack.project, "iniconfig")
        locks = [stack.project / name for name in ("requirements.txt", "requirements-dev.txt")]
        before = [pins(lock) for lock in locks]
        said = ""
        for target in (["setup"], ["lock"] if live else ["lock", "UPGRADE=--help"]):
            said += make(stack, person, *target)
        if live:
            after = [pins(lock) for lock in locks]
            (added,) = after[0] - before[0]
            assert added.startswith("iniconfig==") and after == [before[0] | {added}, before[1]] and added in after[1]
        else:
            assert said.count("Usage: uv pip compile") == 2
        files = [*locks, *(stack.project / "secrets").iterdir()]
        assert len(files) > 5 and {file.stat().st_uid for file in files} == {PERSON}


def pins(lock: Path) -> set[str]:
    return set(re.findall(r"^\S+==\S+", lock.read_text(), flags=re.MULTILINE))


def make(stack: Stack, path: Path, *target: str) -> str:
    done = subprocess.run(["make", *target], cwd=stack.project, env={"PATH": str(path)}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def made(stack: Stack, target: str) -> str:
    """What `make` would run."""
    return subprocess.check_output(["make", "--dry-run", target], cwd=stack.project, text=True)
