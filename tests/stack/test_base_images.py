"""The base images that a generated project names keep what the official ones' documentation promises. These tests pass on the
official images and on the stand-ins of tests/base_images: what works on one works on the other.
"""

import gzip
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.baking import TEMPLATE
from tests.stack.stack import docker, run
from tests.waiting import eventually

POSTGRES = [
    f"postgres:{version}-trixie"
    for version in json.loads((TEMPLATE / "cookiecutter.json").read_text())["postgres_version"]
]
# A first boot takes seconds, and one entrypoint serves all: the tests of it share the versions.
NEWEST, *_, OLDEST = POSTGRES
PYTHON = "python:3.14-slim-trixie"
DEBIAN = "debian:trixie-slim"

# Shell, which a container runs with -e -x: the trace names the line that fails.
DEBIAN_SLIM = """
status=0; /usr/sbin/policy-rc.d || status=$?; test "$status" = 101
test -z "$(find /var/lib/apt/lists /var/cache/apt/archives -name '*_Packages*' -o -name '*.deb')"
test -z "$(find /usr/share/doc /usr/share/man -type f ! -name copyright)"
test -z "$(command -v gcc cc make)"
test -z "${DEBIAN_FRONTEND+set}"
"""
IN_POSTGRES = """
test "$(id -u)" = 0
test "$(id -u postgres):$(id -g postgres)" = 999:999
test "$(stat -c %a:%U /var/lib/postgresql /var/run/postgresql)" = "$(printf '1777:postgres\\n3777:postgres')"
test -d /docker-entrypoint-initdb.d
test -n "$(locale -a | grep -x en_US.utf8)"
test -n "$(grep "^listen_addresses = '\\*'" /usr/share/postgresql/postgresql.conf.sample)"
test "$(dpkg-query -W -f '${Version}' "postgresql-$PG_MAJOR")" = "$PG_VERSION"
test "$(gosu postgres id -un)" = postgres
# After the system's own directories: Debian's psql is the one that is found.
test "$(command -v psql)" = /usr/bin/psql
test "$(command -v initdb)" = "/usr/lib/postgresql/$PG_MAJOR/bin/initdb"
"""
IN_PYTHON = """
test "$(command -v python python3 pip)" = "$(printf '/usr/local/bin/%s\\n' python python3 pip)"
test "$(python --version)" = "Python $PYTHON_VERSION"
test "$(pip list --format freeze --disable-pip-version-check | cut -d = -f 1)" = pip
# What the stand-in knows of the machine that made it is not told to programs.
test -z "${SSL_CERT_FILE+set}${PIP_CERT+set}"
test -s /etc/ssl/certs/ca-certificates.crt
python -c 'if True:
    import bz2, ctypes, curses, ensurepip, lzma, pathlib, readline, socket, sqlite3, ssl, sysconfig, uuid, venv, zlib, zoneinfo
    zoneinfo.ZoneInfo("Europe/Berlin")
    socket.getservbyname("https")
    assert not pathlib.Path(sysconfig.get_path("stdlib"), "EXTERNALLY-MANAGED").exists()'
"""


def run_in(image: str, script: str) -> None:
    """Through the image's own entrypoint, which runs a command as it is."""
    run("docker", "run", "--rm", "--network", "none", image, "bash", "-exc", script)


def config(image: str) -> dict[str, Any]:
    # Not there yet, and no stand-in: an official image.
    if run("docker", "image", "inspect", image, check=False).returncode:
        docker("pull", "--quiet", image)
    found: dict[str, Any] = json.loads(docker("image", "inspect", "--format", "{{json .Config}}", image))
    return found


@contextmanager
def created(image: str, *command: str, user: str = "", **environment: str) -> Iterator[str]:
    given = [part for name, value in environment.items() for part in ("--env", f"{name}={value}")]
    container = docker("create", "--user", user, *given, image, *command)
    try:
        yield container
    finally:
        docker("rm", "--force", "--volumes", container)


def logs(container: str) -> str:
    done = run("docker", "logs", container)
    return done.stdout + done.stderr


def running(container: str) -> bool:
    return docker("inspect", "--format", "{{.State.Running}}", container) == "true"


def start(container: str) -> None:
    """Returns when the server answers from elsewhere, which that of the first boot does not."""
    docker("start", container)

    def answers() -> bool:
        assert running(container), logs(container)
        return run("docker", "exec", container, "pg_isready", "--host", "127.0.0.1", check=False).returncode == 0

    eventually(answers)


def fails(container: str) -> str:
    """Starts it. It must end by itself, and tell so: what it said."""
    docker("start", container)
    eventually(lambda: not running(container))
    assert exit_status(container) != 0
    return logs(container)


def exit_status(container: str) -> int:
    return int(docker("inspect", "--format", "{{.State.ExitCode}}", container))


def psql(container: str, sql: str, connection: str, *, from_elsewhere: bool = False) -> str:
    # The container's own address is not the loopback that may come in without a password.
    address = f" hostaddr={docker('exec', container, 'hostname', '-i')}" if from_elsewhere else ""
    command = ["psql", "-XAtq", "-v", "ON_ERROR_STOP=1", "-w", connection + address, "-c", sql]
    done = run("docker", "exec", container, *command, check=False)
    return done.stdout.strip() or done.stderr


def put(container: str, directory: str, files: dict[str, tuple[int, bytes]], tmp_path: Path) -> None:
    for name, (mode, content) in files.items():
        path = tmp_path / name
        path.write_bytes(content)
        path.chmod(mode)
        docker("cp", str(path), f"{container}:{directory}/{name}")


@pytest.mark.parametrize("image", POSTGRES)
def test_postgres_tells_how_it_is_run(image: str) -> None:
    told = config(image)
    environment = dict(entry.split("=", 1) for entry in told["Env"])
    major = image.partition(":")[2].partition("-")[0]
    volume, pgdata = "/var/lib/postgresql", f"/var/lib/postgresql/{major}/docker"
    if int(major) < 18:
        volume = pgdata = "/var/lib/postgresql/data"
    assert told["Entrypoint"] == ["docker-entrypoint.sh"]
    assert told["Cmd"] == ["postgres"]
    assert told["StopSignal"] == "SIGINT"
    assert list(told["ExposedPorts"]) == ["5432/tcp"]
    assert list(told["Volumes"]) == [volume]
    assert environment["PGDATA"] == pgdata
    assert environment["PG_MAJOR"] == major
    assert environment["LANG"] == "en_US.utf8"


@pytest.mark.parametrize("image", POSTGRES)
def test_what_is_in_postgres(image: str) -> None:
    run_in(image, DEBIAN_SLIM + IN_POSTGRES)


def test_what_is_in_debian() -> None:
    run_in(DEBIAN, DEBIAN_SLIM)


def test_what_is_in_python() -> None:
    assert config(PYTHON)["Cmd"] == ["python3"]
    run_in(PYTHON, DEBIAN_SLIM + IN_PYTHON)


def test_the_first_boot_makes_what_is_asked_for_and_the_second_keeps_it(tmp_path: Path) -> None:
    d = """#!/bin/sh -e
    for what in "$SOURCED" "$(id -un)"; do
      echo "INSERT INTO came VALUES ('$what')" | psql --username "$POSTGRES_USER" --dbname "$POSTGRES_DB"
    done
    """
    scripts = {
        "a.sql": (0o644, b"CREATE TABLE came (what text); INSERT INTO came VALUES (current_user)"),
        # After a.sql in the order of en_US.utf8, before it in that of C.
        "B.sql.gz": (
            0o644,
            gzip.compress(b"INSERT INTO came VALUES ('<' || current_setting('listen_addresses') || '>')"),
        ),
        "c.sh": (0o644, b"echo $an_unset_variable; export SOURCED=sourced"),
        "d.sh": (0o755, d.encode()),
        "e.txt": (0o644, b"This is no SQL."),
    }
    came = ["keeper", "<>", "sourced", "postgres"]
    environment = {
        "POSTGRES_USER": "keeper",
        "POSTGRES_DB": "shop",
        "POSTGRES_PASSWORD_FILE": "/password",
        "POSTGRES_INITDB_ARGS": "--no-sync --wal-segsize=2",
        # Directories that only root may make.
        "POSTGRES_INITDB_WALDIR": "/srv/wal",
        "PGDATA": "/srv/shop",
    }
    with created(NEWEST, "-c", "fsync=off", "-c", "max_connections=17", **environment) as container:
        put(container, "/docker-entrypoint-initdb.d", scripts, tmp_path)
        # Only root may read it.
        put(container, "", {"password": (0o600, b"s3cret\n")}, tmp_path)
        start(container)
        keeper = "user=keeper dbname=shop"
        asked = ["max_connections", "wal_segment_size", "lc_messages", "listen_addresses"]
        settings = ", ".join(f"current_setting('{name}')" for name in asked)
        answer = psql(container, f"SELECT concat_ws(' ', {settings}, pg_jit_available())", keeper)
        assert answer == "17 2MB en_US.utf8 * t"
        roles = psql(container, "SELECT rolname, rolsuper FROM pg_roles WHERE rolname !~ '^pg_'", keeper)
        assert roles == "keeper|t"
        assert docker("exec", container, "readlink", "/srv/shop/pg_wal") == "/srv/wal"
        assert psql(container, "SELECT 1", f"{keeper} password=s3cret", from_elsewhere=True) == "1"
        refused = psql(container, "SELECT 1", f"{keeper} password=wrong", from_elsewhere=True)
        assert "password authentication failed" in refused

        docker("stop", container)
        assert exit_status(container) == 0
        # A script that ran again would end it.
        start(container)
        assert psql(container, "SELECT what FROM came", keeper).splitlines() == came


def test_it_runs_as_uid_999_and_without_a_password_if_everybody_is_trusted() -> None:
    environment = {"POSTGRES_HOST_AUTH_METHOD": "trust", "POSTGRES_INITDB_ARGS": "--no-sync"}
    with created(OLDEST, "-c", "fsync=off", user="999:999", **environment) as container:
        start(container)
        assert psql(container, "SELECT current_database()", "user=postgres", from_elsewhere=True) == "postgres"


def test_an_empty_password_is_refused_and_leaves_no_cluster() -> None:
    with created(NEWEST, POSTGRES_PASSWORD="") as container:
        assert "POSTGRES_PASSWORD" in fails(container)
        nothing = 'test ! -e "$PGDATA/PG_VERSION"'
        run("docker", "run", "--rm", "--volumes-from", container, NEWEST, "bash", "-c", nothing)


@pytest.mark.parametrize(
    ("script", "content", "said"),
    [
        ("fails.sql", b"SELECT 1 / 0", "division by zero"),
        ("cut.sql.gz", gzip.compress(b"SELECT 1;")[:-1], "unexpected end of file"),
    ],
    ids=["sql", "sql.gz"],
)
def test_a_script_that_fails_ends_the_first_boot(script: str, content: bytes, said: str, tmp_path: Path) -> None:
    environment = {"POSTGRES_PASSWORD": "s3cret", "POSTGRES_INITDB_ARGS": "--no-sync"}
    with created(NEWEST, "-c", "fsync=off", **environment) as container:
        put(container, "/docker-entrypoint-initdb.d", {script: (0o644, content)}, tmp_path)
        assert said in fails(container)
