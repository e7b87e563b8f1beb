"""A generated project's compose stack, as a test drives it."""

import json
import re
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import requests

from tests.baking import bake, edit_env, env, free_port
from tests.waiting import eventually


class ComposeError(Exception):
    pass


def run(
    *command: str, cwd: Path | None = None, check: bool = True, stdin: str = ""
) -> "subprocess.CompletedProcess[str]":
    """:raises ComposeError: for an exit status other than 0, if `check`"""
    done = subprocess.run(command, cwd=cwd, input=stdin, capture_output=True, text=True, timeout=600)
    return checked(done) if check else done


def checked(done: "subprocess.CompletedProcess[str]") -> "subprocess.CompletedProcess[str]":
    if done.returncode:
        raise ComposeError(f"{' '.join(done.args)}: {done.returncode}\n{done.stdout}\n{done.stderr}")
    return done


def docker(*arguments: str, check: bool = True) -> str:
    """What the command prints."""
    return run("docker", *arguments, check=check).stdout.strip()


class Stack:
    """A generated project.

    :param slug: its name, which containers, networks and images carry
    :param images: the slug of a project whose images are built; without it, `up` builds
    """

    def __init__(self, directory: Path, slug: str, *, images: str = "", **answers: str) -> None:
        self.slug = slug
        self.images = images
        self.project = bake(directory, project_slug=slug, project_name="Test site", **answers)
        self.port = free_port()
        # Tests read in a page's footer which database answered.
        self.edit_env(WEB_PORT=str(self.port), SHOW_ROUTING="on")
        for image in ("web", "pgbouncer", "postgres:18") if images else ():
            docker("tag", f"{images}-{image}", f"{slug}-{image}")

    # What a person does ------------------------------------------------------------------------------------------

    def compose(self, *arguments: str, check: bool = True, stdin: str = "") -> "subprocess.CompletedProcess[str]":
        return run("docker", "compose", *arguments, cwd=self.project, check=check, stdin=stdin)

    def up(self, *arguments: str) -> None:
        build = [] if self.images else ["--build"]
        self.compose("up", "--detach", "--wait", *build, *arguments)

    def refuses_up(self, *arguments: str) -> str:
        """`up` that must fail: what it prints."""
        done = self.compose("up", "--detach", "--wait", *arguments, check=False)
        assert done.returncode != 0, done.stderr
        return done.stdout + done.stderr

    def down(self) -> None:
        """With its volumes and images, of services in no active profile too."""
        everything = ["--volumes", "--remove-orphans", "--timeout", "0"]
        self.compose("--profile", "*", "down", *everything, check=False)
        ours = docker("image", "ls", "--filter", f"reference={self.slug}-*", "--format", "{{.Repository}}:{{.Tag}}")
        if ours:
            docker("image", "rm", "--force", *ours.split(), check=False)

    def edit_env(self, **values: str) -> None:
        edit_env(self.project, **values)

    def env(self, name: str) -> str:
        return env(self.project, name)

    def attempt(
        self, service: str, *command: str, stdin: str = "", **environment: str
    ) -> "subprocess.CompletedProcess[str]":
        """Runs the command in the service's container. `docker compose exec` does the same in twice the time."""
        given = [part for name, value in environment.items() for part in ("--env", f"{name}={value}")]
        return run(
            "docker", "exec", "--interactive", *given, self.container(service), *command, check=False, stdin=stdin
        )

    def exec(self, service: str, *command: str, stdin: str = "", **environment: str) -> str:
        """As `attempt`: what the command prints.

        :raises ComposeError: for an exit status other than 0
        """
        return checked(self.attempt(service, *command, stdin=stdin, **environment)).stdout.strip()

    def manage(self, *arguments: str, **environment: str) -> str:
        """manage.py in the web container."""
        return self.exec("web", "python", "manage.py", *arguments, **environment)

    def shell(self, code: str, **environment: str) -> str:
        return self.manage("shell", "--verbosity", "0", "-c", code, **environment)

    # What it looks like inside -----------------------------------------------------------------------------------

    @property
    def replicas(self) -> list[str]:
        return [f"replica-{number}" for number in range(1, int(self.env("REPLICAS")) + 1)]

    def psql(self, node: str, sql: str, database: str | None = None) -> str:
        """As the superuser, inside the node. Rows as lines, columns separated by |."""
        return self.exec(node, *self._psql(database), stdin=sql)

    def _psql(self, database: str | None = None) -> list[str]:
        return ["psql", "-XAtq", "-v", "ON_ERROR_STOP=1", "-U", "postgres", "-d", database or self.slug]

    def resume_replay(self, replica: str) -> None:
        """The replay that goes on may cancel the very statement that resumed it: it has had its effect by then."""
        try:
            self.psql(replica, "SELECT pg_wal_replay_resume()")
        except ComposeError as error:
            if "conflict with recovery" not in str(error):
                raise

    def drop_slot(self, name: str) -> None:
        """While its replica holds it and comes back each second."""
        drop = f"""
            SELECT pg_terminate_backend(active_pid, 10000) FROM pg_replication_slots WHERE slot_name = '{name}' AND active;
            SELECT pg_drop_replication_slot('{name}')
        """
        eventually(lambda: self.attempt("primary", *self._psql(), stdin=drop).returncode == 0)

    def facts(self, node: str, **questions: str) -> dict[str, Any]:
        """Each question is a SQL expression; all answers come from one statement."""
        pairs = ", ".join(f"'{name}', ({sql})" for name, sql in questions.items())
        found: dict[str, Any] = json.loads(self.psql(node, f"SELECT json_build_object({pairs})"))
        return found

    def pgbouncer(self, command: str) -> list[dict[str, str]]:
        """A SHOW command, as the operator in the container."""
        psql = ["psql", "-X", "--csv", "-h", "/run/pgbouncer", "-U", "pgbouncer", "-d", "pgbouncer", "-c", command]
        header, *rows = self.exec("pgbouncer", *psql).splitlines()
        return [dict(zip(header.split(","), row.split(","), strict=False)) for row in rows]

    def clients(self) -> int:
        """Connections of the site to PgBouncer, whose own health check logs in as the site does, for an instant."""
        return sum(
            row["user"] == "app" and row["database"] != "pgbouncer" and row["addr"] != "127.0.0.1"
            for row in self.pgbouncer("SHOW CLIENTS")
        )

    def kill_backend(self, node: str) -> None:
        """kill -9 of a process that serves the site: the server cannot know what it has done to the shared memory. Waits until
        the node, a replica, has started again.
        """
        before = self.inspect(node)["State"]["StartedAt"]
        # [p]: not the shell that looks for it. The one that serves may leave just now: then another of the server's.
        kill = """
        for try in {1..50}; do pid=$(pgrep --oldest --full '[p]ostgres: .* app ') && break; sleep 0.1; done
        kill -9 "${pid:-$(pgrep --full '[p]ostgres: .*checkpointer')}"
        """
        # The container may end before the command does.
        self.attempt(node, "bash", "-c", kill)
        # Docker waits twice as long before each restart of a container that ran for less than 10 s.
        eventually(lambda: self.inspect(node)["State"]["StartedAt"] > before, patience=180)

    @contextmanager
    def paused(self, service: str) -> Iterator[None]:
        """Frozen, with all its processes. runc gives up on a container that just then makes another: again, if so."""
        container = self.container(service)
        for _ in range(6):
            done = run("docker", "pause", container, check=False)
            if "unable to freeze" not in done.stderr:
                break
            print(f"again: {done.stderr}")
            time.sleep(0.2)
        if done.returncode:
            raise ComposeError(f"docker pause {service}: {done.stderr}")
        try:
            yield
        finally:
            docker("unpause", container)

    def container(self, service: str) -> str:
        """Its name, whether or not it exists."""
        return f"{self.slug}-{service}-1"

    def inspect(self, service: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(docker("inspect", self.container(service)))[0]
        return found

    def recovers(self, *services: str) -> None:
        """Docker calls what was suspended unhealthy until it is asked again, and `up --wait` would give up on that."""
        for service in services:
            eventually(lambda service=service: self.inspect(service)["State"]["Health"]["Status"] == "healthy")

    def address(self, service: str) -> str:
        """Where the other nodes and PgBouncer find it; empty if it does not run."""
        networks = self.inspect(service)["NetworkSettings"]["Networks"]
        return str(networks[f"{self.slug}_database"]["IPAddress"])

    def running(self) -> list[str]:
        return sorted(self.compose("ps", "--services", "--status", "running").stdout.split())

    def logs(self, *services: str) -> str:
        return self.compose("logs", "--no-color", *services).stdout

    def state(self) -> str:
        """For a person who looks into a failure: the containers, and the ends of their logs."""
        containers = self.compose("--profile", "*", "ps", "--all", check=False).stdout
        return containers + self.compose("--profile", "*", "logs", "--no-color", "--tail", "40", check=False).stdout

    def ready(self) -> bool:
        """The site reaches every database. A process that has just begun needs a moment to know."""
        return bool(self.get("/readyz").json()["status"] == "ok")

    def secret(self, name: str) -> str:
        return (self.project / "secrets" / name).read_text().strip()

    # What a visitor does -----------------------------------------------------------------------------------------

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.port}{path}"

    def get(self, path: str) -> requests.Response:
        return requests.get(self.url(path), timeout=90)

    def an_article(self) -> str:
        """The path of some article's page; made first if there is none."""
        found = re.search(r'href="(/articles/[^"]+/)"', self.get("/").text)
        if not found:
            self.manage("seed_articles", "--articles", "30", "--comments", "60", "--verbosity", "0")
            found = eventually(lambda: re.search(r'href="(/articles/[^"]+/)"', self.get("/").text))
        return str(found[1])

    def comment(self, text: str) -> requests.Session:
        """Writes a row through the site: the form of an article's page. Returns the visitor who did, with his cookies."""
        url = self.url(self.an_article())
        with requests.Session() as visitor:
            # gunicorn closes a connection that was idle for 2 s; a request just then would fail for no fault of ours.
            visitor.headers["Connection"] = "close"
            form = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', visitor.get(url, timeout=90).text)
            assert form, "the page has no form"
            posted = visitor.post(
                url,
                {"csrfmiddlewaretoken": form[1], "author_name": "a visitor", "body": text},
                allow_redirects=False,
                timeout=90,
            )
            assert posted.status_code == 302, posted.text[:2000]
        return visitor

    def comments(self, node: str, text: str) -> int:
        return int(self.psql(node, f"SELECT count(*) FROM articles_comment WHERE body = '{text}'"))

    def assert_whole(self, comment: str = "") -> None:
        """All that a first boot makes is there, once; every replica streams; each node has the comment, if one is given."""
        has_comment = f"SELECT count(*) FROM articles_comment WHERE body = '{comment}'"
        system = "SELECT system_identifier FROM pg_control_system()"
        primary = {
            "roles": "SELECT string_agg(rolname, ',' ORDER BY rolname) FROM pg_authid WHERE rolcanlogin",
            "statistics": "SELECT count(*) FROM pg_extension WHERE extname = 'pg_stat_statements'",
            "slots": "SELECT string_agg(slot_name, ',' ORDER BY slot_name) FROM pg_replication_slots WHERE active",
            "recovers": "pg_is_in_recovery()",
            "migrated": "SELECT count(*) > 0 FROM django_migrations WHERE app = 'articles'",
            "comments": has_comment,
            "system": system,
        }
        replica = {
            "recovers": "pg_is_in_recovery()",
            "receiver": "SELECT status FROM pg_stat_wal_receiver",
            "comments": has_comment,
            "system": system,
        }
        slots = ",".join(name.replace("-", "_") for name in self.replicas)
        wanted = {
            "roles": "app,monitor,owner,postgres,replicator",
            "statistics": 1,
            "slots": slots or None,
            "recovers": False,
            "migrated": True,
            "comments": 1 if comment else 0,
        }
        # A replica whose primary has just come back needs a moment to find it.
        found = eventually(lambda: (facts := self.facts("primary", **primary))["slots"] == wanted["slots"] and facts)
        same_system = {"system": found["system"]}
        assert found == wanted | same_system
        on_replica = {"recovers": True, "receiver": "streaming", "comments": wanted["comments"]} | same_system
        for name in self.replicas:
            eventually(lambda name=name: self.facts(name, **replica) == on_replica)
