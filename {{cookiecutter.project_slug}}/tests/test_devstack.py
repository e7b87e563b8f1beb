"""What devstack says of the machine that it finds. (That it starts and stops is tested with the template.)"""

import os
import socket
import subprocess
import sys

import pytest

from ops.devstack import pooler_note, why_not_free


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
    env = os.environ | {"WEB_PORT": port}
    done = subprocess.run([sys.executable, "manage.py", "devstack"], env=env, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr == f"CommandError: WEB_PORT is {port!r}. Give a number from 1 to 65535 in .env.\n"


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
