"""`manage.py devstack`, as a test drives it."""

import os
import re
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import psycopg

from tests.baking import env
from tests.waiting import eventually

MANAGE = [".venv/bin/python", "manage.py"]


def manage(project: Path, *arguments: str) -> str:
    done = subprocess.run([*MANAGE, *arguments], cwd=project, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


class Devstack:
    """`manage.py devstack` in a terminal."""

    def __init__(self, project: Path, *options: str, **environment: str) -> None:
        self.project = project
        self.terminal = terminal(project)
        with self.terminal.open("wb") as output:
            # Its own group, as a terminal gives each command: Ctrl-C goes to the whole group.
            self.process = subprocess.Popen(
                [*MANAGE, "devstack", *options],
                cwd=project,
                env=os.environ | environment,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    @property
    def output(self) -> str:
        return self.terminal.read_text(errors="replace")

    def wait_for(self, pattern: str) -> str:
        def found() -> re.Match[str] | None:
            ended = self.process.poll() is not None
            match = re.search(pattern, self.output)
            assert match or not ended, f"it ended with {self.process.returncode}:\n{self.output}"
            return match

        return eventually(found, patience=300)[1]

    @property
    def url(self) -> str:
        """Waits until the site is up."""
        return self.wait_for(r"The site: (\S+)/ ")

    def ctrl_c(self) -> int:
        os.killpg(self.process.pid, signal.SIGINT)
        return self.process.wait(timeout=60)


@contextmanager
def devstack(project: Path, *options: str, **environment: str) -> Iterator[Devstack]:
    """Running; stopped at the end by Ctrl-C, if the test has not stopped it."""
    stack = Devstack(project, *options, **environment)
    try:
        assert stack.url
        yield stack
    finally:
        if stack.process.poll() is None:
            assert stack.ctrl_c() == 0, stack.output


def terminal(project: Path) -> Path:
    """What the project's devstack has printed."""
    return project.with_name(f"{project.name}.terminal")


def logs(project: Path) -> list[tuple[str, str]]:
    """The last lines of the terminal and of each server's log."""
    files = [terminal(project), *sorted((project / ".devstack").glob("*.log"))]
    return [
        (path.name, "\n".join(path.read_text(errors="replace").splitlines()[-40:])) for path in files if path.exists()
    ]


def processes() -> dict[int, tuple[int, str]]:
    """All of the machine's: parent and command line, by process id."""
    found = subprocess.run(["ps", "-eo", "pid=,ppid=,args=", "-ww"], capture_output=True, text=True, check=True).stdout
    fields = (line.split(maxsplit=2) for line in found.splitlines())
    return {int(pid): (int(parent), command) for pid, parent, command in fields}


def servers(project: Path) -> dict[int, str]:
    """The command lines of what runs for this project, by process id: its Python, its scripts, the servers on its data,
    and what its devstack has noted as started (PgBouncer names no file of the project).
    """
    ours = [f"{project}/{part}/" for part in (".devstack", ".venv", "postgres", "pgbouncer")]
    noted = project / ".devstack" / "processes"
    started = set(map(int, noted.read_text().split())) if noted.exists() else set()
    return {
        pid: command
        for pid, (_, command) in processes().items()
        if pid in started or any(part in command for part in ours)
    }


def end_servers(project: Path) -> None:
    """Stops the servers that a killed devstack has left, by process id, and waits until none holds the data's lock."""
    for pid in servers(project):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGINT)
    # A child of a killed PostgreSQL names no file, and ends by itself a moment later.
    unlocked = ["flock", "--nonblock", str(project / ".devstack" / "processes"), "true"]
    eventually(lambda: not servers(project) and subprocess.run(unlocked).returncode == 0)


def nodes(project: Path) -> list[str]:
    return ["primary", *(f"replica-{number}" for number in range(1, int(env(project, "REPLICAS")) + 1))]


def sql(project: Path, node: str, statement: str) -> list[tuple[Any, ...]]:
    """Runs the statement on one node, over its socket, as the system user that owns the data: the superuser there."""
    (pid_file,) = (project / ".devstack" / node).glob("*/docker/postmaster.pid")
    port, directory = pid_file.read_text().splitlines()[3:5]
    mine = os.geteuid()
    os.seteuid(pid_file.stat().st_uid)
    try:
        connection = psycopg.connect(host=directory, port=port, user="postgres", dbname=project.name, autocommit=True)
    finally:
        os.seteuid(mine)
    with connection:
        cursor = connection.execute(statement)
        return cursor.fetchall() if cursor.description else []


def as_the_site(project: Path) -> "psycopg.Connection[Any]":
    """A session of the site's role on the primary, by the address that the devstack has left for manage.py."""
    address = env(project, "DATABASE_URL", ".devstack/env")
    password = (project / "secrets" / "app_password").read_text().strip()
    return psycopg.connect(address, password=password, autocommit=True, prepare_threshold=None)


def write(project: Path, text: str) -> None:
    """A row, as the site writes."""
    row = "INSERT INTO articles_article (title, slug, author_name, body, created_at) VALUES (%s, %s, '', '', now())"
    with as_the_site(project) as connection:
        connection.execute(row, [text, text])


def titles(project: Path, node: str) -> list[str]:
    return [title for (title,) in sql(project, node, "SELECT title FROM articles_article ORDER BY id")]
