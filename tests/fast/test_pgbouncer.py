"""The settings that pgbouncer/entrypoint.sh writes are those that the version knows."""

import os
import re
import subprocess
from pathlib import Path

import pytest

from tests.baking import PROJECT

# The setting, and the first version 1.x that knows it. An unknown one stops PgBouncer.
SINCE = {r"^max_prepared_statements": 21, r"^\w+ = host=.* query_wait_timeout=": 26}


@pytest.mark.parametrize("minor", [18, 20, 21, 25, 26, 31])
def test_the_settings_are_those_that_the_version_knows(tmp_path: Path, minor: int) -> None:
    """What stands in for PgBouncer tells its version, or shows what it would read."""
    program = tmp_path / "pgbouncer"
    program.write_text(f"""#!/usr/bin/env bash
        if [ "$1" = --version ]; then echo "PgBouncer 1.{minor}.0"; echo "libevent 2.1.12-stable"; exit; fi
        show() {{ while read -r word file; do [ "$word" = %include ] && show "$file" || echo "$word $file"; done <"$1"; }}
        show "$1"
    """)
    program.chmod(0o755)
    for role in ("app", "monitor"):
        (tmp_path / f"{role}_password").write_text("x\n")
    env = {
        "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}",
        "RUN_DIR": str(tmp_path / "run"),
        "SECRETS_DIR": str(tmp_path),
        "CONFIG": str(PROJECT / "pgbouncer" / "pgbouncer.ini"),
        **{"DATABASE_NAME": "mydb", "PRIMARY_HOST": "primary", "REPLICAS": "1", "POOL_MODE": "transaction"},
        **{"POOL_SIZE": "20", "RESERVE_POOL_SIZE": "5", "PRIMARY_ADDRESS": "host=a", "REPLICA_1_ADDRESS": "host=b"},
    }
    script = PROJECT / "pgbouncer" / "entrypoint.sh"
    read = subprocess.run(["bash", script], env=env, capture_output=True, text=True, check=True).stdout
    for setting, since in SINCE.items():
        assert bool(re.search(setting, read, flags=re.MULTILINE)) == (minor >= since), read
    # Everything else is there in any version, and no client waits for PgBouncer's default of 120 s.
    assert "max_client_conn = 1000" in read and "replica_1 = host=b" in read
    assert len(re.findall(r"query_wait_timeout ?= ?\d", read)) == (2 if minor >= 26 else 1)
