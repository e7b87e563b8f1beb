import os
import shutil
import signal
import subprocess
import sys
import tempfile
from argparse import REMAINDER, ArgumentParser
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError

from ops.devstack import Devstack, DevstackError, free_port, stop
from ops.setup import make_secrets

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
        parser.add_argument("--seed", action="store_true", help="make articles and comments to look at")
        parser.add_argument("command", nargs=REMAINDER, help="run this instead of the site, and end with its status")

    def handle(self, *args: Any, for_tests: bool, seed: bool, command: list[str], **options: Any) -> None:
        # `docker stop` sends SIGTERM, a closed terminal SIGHUP, and a shell script's background job starts with SIGINT
        # ignored: each is to end as Ctrl-C does.
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.default_int_handler)
        data = Path(tempfile.mkdtemp(prefix="devstack-")) if for_tests else settings.BASE_DIR / ".devstack"
        try:
            status = self._run(data, for_tests, seed, command)
        except DevstackError as error:
            raise CommandError(str(error)) from error
        except subprocess.CalledProcessError as error:
            raise CommandError(f"{' '.join(map(str, error.cmd))} ended with {error.returncode}.") from error
        except KeyboardInterrupt:
            self.stdout.write("\nstopped" if for_tests else f"\nstopped; the data is in {data}")
            status = 130 if command else 0
        finally:
            if for_tests:
                shutil.rmtree(data)
        sys.exit(status)

    def _run(self, data: Path, for_tests: bool, seed: bool, command: list[str]) -> int:
        if settings.SECRETS_DIR == settings.BASE_DIR / "secrets":
            make_secrets(settings.SECRETS_DIR)
        choices = DEFAULTS | dict(os.environ)
        with Devstack(data, choices, secrets=settings.SECRETS_DIR, pooler=not for_tests) as stack:
            static = data / "static"
            env = os.environ | stack.urls("owner" if for_tests else "app") | {"STATIC_ROOT": str(static)}
            if for_tests:
                stack.psql("ALTER ROLE owner CREATEDB", database="postgres")
                # By which a test makes a replica lag.
                for function in ("pg_wal_replay_pause", "pg_wal_replay_resume"):
                    stack.psql(f"GRANT EXECUTE ON FUNCTION {function}() TO owner")
                # The test database is a copy of template1, and only a superuser may create the extension.
                stack.psql("CREATE EXTENSION IF NOT EXISTS pg_stat_statements", database="template1")
                # The test runner holds one connection for a whole test; a pool would only be in its way.
                env |= {"CONNECTION_STRATEGY": "per-request", "SHOW_QUERIES": "on"}
            subprocess.run([*MANAGE, "collectstatic", "--noinput", "--verbosity=0"], env=env, check=True)
            subprocess.run([*MANAGE, "migrate", "--noinput", f"--verbosity={int(not for_tests)}"], env=env, check=True)
            if seed:
                env["SHOW_QUERIES"] = "on"
                subprocess.run([*MANAGE, "seed_articles"], env=env, check=True)
            if command[:1] == ["--"]:
                command = command[1:]
            if not command:
                return self._serve(stack, env)
            process = stack.spawn(command, env=env)
            try:
                return process.wait()
            finally:
                stop(process)

    def _serve(self, stack: Devstack, env: dict[str, str]) -> int:
        port = free_port(int(env.get("WEB_PORT", "8000")))
        # By this file manage.py finds the stack, in any other terminal.
        addresses = stack.data / "env"
        addresses.write_text("".join(f"{name}={value}\n" for name, value in stack.urls().items() if name != "REPLICAS"))
        gunicorn = [sys.executable, "-m", "gunicorn", "--config", "config/gunicorn.conf.py"]
        site = stack.spawn(gunicorn, env=env | {"WEB_BIND": f"127.0.0.1:{port}"}, cwd=settings.BASE_DIR)
        try:
            subprocess.run([*MANAGE, "topology"], env=env, check=True)
            self.stdout.write(f"\nThe site: http://localhost:{port}/    Stop it: Ctrl-C")
            self.stdout.write("In another terminal manage.py finds this stack; rows: python manage.py seed_articles\n")
            self.stdout.flush()
            return site.wait()
        finally:
            stop(site)
            addresses.unlink()
