"""A generated project's compose stack, as a test drives it."""

import json
import re
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import requests

from tests.baking import bake, edit_env, free_port


def eventually(condition: Callable[[], Any], patience: float = 30.0) -> Any:
    """Waits for a truthy answer and returns it; fails with the last one."""
    deadline = time.monotonic() + patience
    while not (answer := condition()):
        assert time.monotonic() < deadline, f"still {answer!r} after {patience:g} s"
        time.sleep(0.1)
    return answer


class ComposeError(Exception):
    pass


class Stack:
    def __init__(self, directory: Path, slug: str = "pgstack_test", **answers: str) -> None:
        self.slug = slug
        self.project = bake(directory, project_slug=slug, project_name="Test site", **answers)
        self.port = free_port()
        self.edit_env(WEB_PORT=str(self.port))

    # What a person does ------------------------------------------------------------------------------------------

    def compose(self, *arguments: str, check: bool = True, stdin: str = "") -> "subprocess.CompletedProcess[str]":
        done = subprocess.run(
            ["docker", "compose", *arguments],
            cwd=self.project,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=600,
        )
        if check and done.returncode:
            raise ComposeError(f"docker compose {' '.join(arguments)}: {done.returncode}\n{done.stdout}\n{done.stderr}")
        return done

    def up(self, *arguments: str) -> None:
        self.compose("up", "--detach", "--build", "--wait", *arguments)

    def down(self) -> None:
        """With its volumes and images, of services in no active profile too."""
        self.compose(
            "--profile", "*", "down", "--volumes", "--remove-orphans", "--rmi", "local", "--timeout", "0", check=False
        )

    def edit_env(self, **values: str) -> None:
        edit_env(self.project, **values)

    def env(self, name: str) -> str:
        found = re.search(rf"^{name}=(.*)$", (self.project / ".env").read_text(), flags=re.MULTILINE)
        assert found, name
        return found[1]

    def manage(self, *arguments: str, **environment: str) -> str:
        """manage.py in the web container."""
        given = [part for name, value in environment.items() for part in ("--env", f"{name}={value}")]
        return self.compose("exec", "-T", *given, "web", "python", "manage.py", *arguments).stdout

    def shell(self, code: str) -> str:
        return self.manage("shell", "--verbosity", "0", "-c", code).strip()

    # What it looks like inside -----------------------------------------------------------------------------------

    @property
    def replicas(self) -> list[str]:
        return [f"replica-{number}" for number in range(1, int(self.env("REPLICAS")) + 1)]

    def psql(self, node: str, sql: str, database: str | None = None) -> str:
        """As the superuser, inside the node. Rows as lines, columns separated by |."""
        psql = ["psql", "-XAtq", "-v", "ON_ERROR_STOP=1", "-U", "postgres", "-d", database or self.slug]
        return self.compose("exec", "-T", node, *psql, stdin=sql).stdout.strip()

    def pgbouncer(self, command: str) -> list[dict[str, str]]:
        """A SHOW command, as the operator in the container."""
        psql = ["psql", "-X", "--csv", "-h", "/run/pgbouncer", "-U", "pgbouncer", "-d", "pgbouncer", "-c", command]
        header, *rows = self.compose("exec", "-T", "pgbouncer", *psql).stdout.strip().splitlines()
        return [dict(zip(header.split(","), row.split(","), strict=False)) for row in rows]

    def clients(self) -> int:
        """Connections of the site to PgBouncer, whose own health check logs in as the site does, for an instant."""
        return sum(
            row["user"] == "app" and row["database"] != "pgbouncer" and row["addr"] != "127.0.0.1"
            for row in self.pgbouncer("SHOW CLIENTS")
        )

    def kill_backend(self, node: str) -> None:
        """kill -9 of a process that serves the site: the server cannot know what it has done to the shared memory."""
        # [p]: not the shell that looks for it. Whoever served may have left just now: then another of the server's.
        kill = """
        for try in {1..50}; do pid=$(pgrep --oldest --full '[p]ostgres: .* app ') && break; sleep 0.1; done
        kill -9 "${pid:-$(pgrep --full '[p]ostgres: .*checkpointer')}"
        """
        self.compose("exec", "-T", node, "bash", "-c", kill)

    @contextmanager
    def paused(self, service: str) -> Iterator[None]:
        """Frozen, with all its processes. runc gives up on a container that just then makes another: again, if so."""
        container = self.container(service)
        for _ in range(6):
            done = subprocess.run(["docker", "pause", container], capture_output=True, text=True)
            if "unable to freeze" not in done.stderr:
                break
            time.sleep(0.2)
        if done.returncode:
            raise ComposeError(f"docker pause {service}: {done.stderr}")
        try:
            yield
        finally:
            subprocess.run(["docker", "unpause", container], check=True, capture_output=True)

    def container(self, service: str) -> str:
        return self.compose("ps", "--all", "--quiet", service).stdout.strip()

    def inspect(self, service: str) -> dict[str, Any]:
        done = subprocess.run(
            ["docker", "inspect", self.container(service)], capture_output=True, text=True, check=True
        )
        found: dict[str, Any] = json.loads(done.stdout)[0]
        return found

    def recovers(self, *services: str) -> None:
        """Docker calls what was suspended unhealthy until it is asked again, and `up --wait` would give up on that."""
        for service in services:
            eventually(
                lambda service=service: self.inspect(service)["State"]["Health"]["Status"] == "healthy", patience=60
            )

    def address(self, service: str) -> str:
        """Where the other nodes and PgBouncer find it; empty if it does not run."""
        networks = self.inspect(service)["NetworkSettings"]["Networks"]
        return str(networks[f"{self.slug}_database"]["IPAddress"])

    def running(self) -> list[str]:
        return sorted(self.compose("ps", "--services", "--status", "running").stdout.split())

    def logs(self, *services: str) -> str:
        return self.compose("logs", "--no-color", *services).stdout

    def secret(self, name: str) -> str:
        return (self.project / "secrets" / name).read_text().strip()

    # What a visitor does -----------------------------------------------------------------------------------------

    def get(self, path: str, **options: Any) -> requests.Response:
        return requests.get(f"http://127.0.0.1:{self.port}{path}", timeout=30, **options)

    def an_article(self) -> str:
        """The path of some article's page; made first if there is none."""
        found = re.search(r'href="(/articles/[^"]+/)"', self.get("/").text)
        if not found:
            self.manage("seed_articles", "--articles", "30", "--comments", "60")
            found = eventually(lambda: re.search(r'href="(/articles/[^"]+/)"', self.get("/").text))
        return str(found[1])

    def comment(self, text: str) -> requests.Session:
        """Writes a row through the site: the form of an article's page. Returns the visitor who did, with his cookies."""
        url = f"http://127.0.0.1:{self.port}{self.an_article()}"
        with requests.Session() as visitor:
            form = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', visitor.get(url, timeout=30).text)
            assert form, "the page has no form"
            posted = visitor.post(
                url,
                {"csrfmiddlewaretoken": form[1], "author_name": "a visitor", "body": text},
                allow_redirects=False,
                timeout=30,
            )
            assert posted.status_code == 302, posted.text[:2000]
        return visitor

    def comments(self, node: str, text: str) -> int:
        return int(self.psql(node, f"SELECT count(*) FROM articles_comment WHERE body = '{text}'"))

    def assert_whole(self) -> None:
        """All that a first boot makes is there, once, and every replica streams."""
        roles = self.psql(
            "primary", "SELECT string_agg(rolname, ',' ORDER BY rolname) FROM pg_authid WHERE rolcanlogin"
        )
        assert roles == "app,monitor,owner,postgres,replicator"
        assert self.psql("primary", "SELECT count(*) FROM pg_extension WHERE extname = 'pg_stat_statements'") == "1"
        slots = "SELECT string_agg(slot_name, ',' ORDER BY slot_name) FROM pg_replication_slots WHERE active"
        wanted = ",".join(replica.replace("-", "_") for replica in self.replicas)
        # A replica whose primary has just come back needs a moment to find it.
        eventually(lambda: self.psql("primary", slots) == wanted, patience=10)
        assert self.psql("primary", "SELECT pg_is_in_recovery()") == "f"
        assert int(self.psql("primary", "SELECT count(*) FROM django_migrations WHERE app = 'articles'")) > 0
        system = self.psql("primary", "SELECT system_identifier FROM pg_control_system()")
        for replica in self.replicas:
            assert self.psql(replica, "SELECT pg_is_in_recovery()") == "t", f"{replica} is a second primary"
            assert self.psql(replica, "SELECT system_identifier FROM pg_control_system()") == system
            assert self.psql(replica, "SELECT status FROM pg_stat_wal_receiver") == "streaming"
