import os
import shutil
import signal
import sys
import time
from argparse import REMAINDER, ArgumentParser
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from ops.devstack import STOP_SIGNALS, Devstack, DevstackError, answers, end_once, free_port, why_not_free
from ops.for_tests import INSIDE, RUNNING
from ops.setup import make_secrets

DATA = settings.BASE_DIR / ".devstack"
MANAGE = [sys.executable, str(settings.BASE_DIR / "manage.py")]
# What .env holds where the environment does not; settings.py has read it into the environment.
DEFAULTS = {"POOL_SIZE": "20", "RESERVE_POOL_SIZE": "5"}


class Command(BaseCommand):
    help = (
        "Runs the stack without Docker: primary, replicas, PgBouncer if it is on PATH, migrations, and the site, or "
        "the command given after --. Ctrl-C stops all of it; the data stays in .devstack/ for the next start."
    )
    requires_system_checks = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--for-tests",
            action="store_true",
            help="data in a new directory, removed at the end; the nodes reached directly, as a role that may create "
            "the test database",
        )
        parser.add_argument("--seed", action="store_true", help="make articles to look at")  # remove-example
        parser.add_argument(
            "--reload",
            action="store_true",
            help="to develop: with DEBUG, and by Django's runserver, which takes each edit at once",
        )
        parser.add_argument("command", nargs=REMAINDER, help="run this instead of the site, and end with its status")

    def handle(self, *args: Any, for_tests: bool, reload: bool, command: list[str], **options: Any) -> None:
        self.seed: bool = options["seed"]  # remove-example
        # `docker stop` sends SIGTERM, a closed terminal SIGHUP, and a shell script's background job starts with SIGINT
        # ignored: each is to end as Ctrl-C does.
        for number in STOP_SIGNALS:
            signal.signal(number, end_once)
        try:
            status = self._run(for_tests, reload, command)
        except DevstackError as error:
            raise CommandError(str(error)) from error
        except KeyboardInterrupt:
            self.stdout.write("\nstopped" if for_tests else f"\nstopped; the data is in {DATA}")
            status = 130 if command else 0
        # Too late to stop anything.
        for number in STOP_SIGNALS:
            signal.signal(number, signal.SIG_IGN)
        sys.exit(status)

    def _run(self, for_tests: bool, reload: bool, command: list[str]) -> int:
        choices = DEFAULTS | dict(os.environ)
        port = _port(choices.get("WEB_PORT", "8000"))
        if command[:1] == ["--"]:
            command = command[1:]
        if command and shutil.which(command[0]) is None:
            raise CommandError(f"There is no program {command[0]!r} to run.")
        if settings.SECRETS_DIR == settings.BASE_DIR / "secrets":
            make_secrets(settings.SECRETS_DIR)
        data = None if for_tests else DATA
        with Devstack(data, choices, secrets=settings.SECRETS_DIR, pooler=not for_tests) as stack:
            for note in stack.notes():
                self.stderr.write(note, self.style.WARNING)
            env = stack.environment() | {"STATIC_ROOT": str(stack.data / "static")}
            if for_tests:
                env |= _prepare_tests(stack)
            if reload:
                # runserver has a new thread for each request: what that keeps open, nobody uses again.
                env |= {"DEBUG": "on", "WEB_WORKER": "gthread", "CONNECTION_STRATEGY": "per-request"}
            self._manage(stack, env, "collectstatic", "--noinput", "--verbosity=0")
            self._manage(stack, env, "migrate", "--noinput", f"--verbosity={int(not for_tests)}")
            if self.seed:  # remove-example
                env["SHOW_ROUTING"] = "on"  # remove-example
                self._manage(stack, env, "seed_articles")  # remove-example
            return stack.run(command, env) if command else self._serve(stack, env, port, reload)

    def _manage(self, stack: Devstack, env: dict[str, str], *arguments: str) -> None:
        if status := stack.run([*MANAGE, *arguments], env):
            raise CommandError(f"manage.py {' '.join(arguments)} ended with {status}.")

    def _serve(self, stack: Devstack, env: dict[str, str], port: int, reload: bool) -> int:
        taken, chosen = why_not_free(port), port
        if taken:
            port = free_port()
        # By these manage.py and tests find the stack, in any other terminal.
        addresses = {name: value for name, value in stack.urls().items() if name != "REPLICAS"}
        tests = _prepare_tests(stack) | {"STATIC_ROOT": env["STATIC_ROOT"]}
        for file, values in (("env", addresses), (RUNNING, tests)):
            stack.temporary(stack.data / file)
            (stack.data / file).write_text("".join(f"{name}={value}\n" for name, value in values.items()))
        server = [sys.executable, "-m", "gunicorn", "--config", "config/gunicorn.conf.py"]
        if reload:
            server = [*MANAGE, "runserver", f"127.0.0.1:{port}"]
        site = stack.spawn(server, env=env | {"WEB_BIND": f"127.0.0.1:{port}"}, cwd=settings.BASE_DIR)
        for _ in range(int(env.get("TASK_WORKERS", "0"))):
            lasting = {"WEB_WORKER": "gthread", "CONNECTION_STRATEGY": "persistent"}
            stack.spawn([*MANAGE, "db_worker", "--queue-name=*"], env=env | lasting, cwd=settings.BASE_DIR)
        self._manage(stack, env, "topology")
        # While it starts, Django's reloader misses an edit: of a file that is loaded and not yet watched.
        while not answers(port) and site.poll() is None:
            time.sleep(0.1)
        if taken:
            self.stderr.write(
                f"Port {chosen} is not free ({taken}): the site listens on {port} instead. To choose one, set WEB_PORT "
                "in .env, or stop what listens there.",
                self.style.WARNING,
            )
        self.stdout.write(f"\nThe site: http://localhost:{port}/    Stop it: Ctrl-C")
        self.stdout.write(f"PostgreSQL: {stack.url('primary', 'owner')}    Its password: in secrets/owner_password")
        self.stdout.write(f"Rows to look at: {_python()} manage.py seed_articles")  # remove-example
        self.stdout.write(f"In another terminal {_python()} manage.py finds it.\n")
        self.stdout.flush()
        return site.wait()


def _prepare_tests(stack: Devstack) -> dict[str, str]:
    """:returns: the environment of tests, which reach the nodes directly, as a role that may create a database"""
    stack.psql("ALTER ROLE owner CREATEDB", database="postgres")
    # By which a test makes a replica lag.
    for function in ("pg_wal_replay_pause", "pg_wal_replay_resume"):
        stack.psql(f"GRANT EXECUTE ON FUNCTION {function}() TO owner")
    # The test database is a copy of template1, and only a superuser may create the extension.
    stack.psql("CREATE EXTENSION IF NOT EXISTS pg_stat_statements", database="template1")
    # The test runner holds one connection for a whole test; a pool would only be in its way. No worker runs tasks. What
    # tests leave in a cache ends with them.
    choices = {"CONNECTION_STRATEGY": "per-request", "SHOW_ROUTING": "on", "DEBUG": "off", "TASK_WORKERS": "0"}
    return stack.urls("owner") | choices | {"CACHE_BACKEND": "memory", INSIDE: "on"}


def _python() -> str:
    """As a person types it in the project's directory."""
    program = Path(sys.executable)
    return str(program.relative_to(settings.BASE_DIR)) if program.is_relative_to(settings.BASE_DIR) else str(program)


def _port(chosen: str) -> int:
    if not (chosen.isdecimal() and 0 < int(chosen) < 65536):
        raise CommandError(f"WEB_PORT is {chosen!r}. Give a number from 1 to 65535 in .env.")
    return int(chosen)
