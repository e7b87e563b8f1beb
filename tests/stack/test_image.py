"""The generated project's tests and its devstack, inside its own image: Django 6.1 on Python 3.14."""

import subprocess
from collections.abc import Iterator

import pytest

from tests.conftest import MakeStack
from tests.stack.stack import Stack, docker, run


@pytest.fixture(scope="module")
def stack(make_stack: MakeStack) -> Iterator[Stack]:
    with make_stack(pool_mode="session") as stack:
        stack.compose("build", "test")
        yield stack


def test_the_projects_tests_pass_in_its_image(stack: Stack) -> None:
    """As an ordinary user, on a read-only file system."""
    versions = "import sys, django; print(sys.version_info[:2], django.VERSION[:2])"
    assert stack.compose("run", "--rm", "test", "python", "-c", versions).stdout == "(3, 14) (6, 1)\n"
    # Those of the packages too, where pytest does not go by itself.
    every_test = ["pytest", "-p", "no:cacheprovider", "--override-ini", "norecursedirs=.*"]
    done = stack.compose("run", "--rm", "test", *every_test, check=False)
    print(done.stdout[-10_000:], done.stderr[-5_000:])
    assert done.returncode == 0
    assert " passed" in done.stdout and "failed" not in done.stdout


def test_devstack_as_root_with_pgbouncer_on_path(stack: Stack) -> None:
    """As a container's root, whom PostgreSQL and PgBouncer refuse; the pooler runs in the chosen mode."""
    dockerfile = f"""
        FROM {stack.slug}-pgbouncer AS pgbouncer
        FROM {stack.slug}-test
        USER 0
        RUN apt-get update && apt-get install -y --no-install-recommends pgbouncer
        # The libraries are Debian's; the program is the project's own, which is new enough.
        COPY --from=pgbouncer /usr/sbin/pgbouncer /usr/sbin/pgbouncer
    """
    image = f"{stack.slug}-root"
    subprocess.run(["docker", "build", "--quiet", "--tag", image, "-"], input=dockerfile, text=True, check=True)
    try:
        command = ["python", "manage.py", "devstack", "--", "python", "manage.py", "topology"]
        env_file = ["--env-file", str(stack.project / ".env")]
        done = run("docker", "run", "--rm", *env_file, image, *command, check=False)
    finally:
        docker("image", "rm", image, check=False)
    print(done.stdout, done.stderr)
    assert done.returncode == 0
    assert "PgBouncer's pools" in done.stdout
    assert "session" in done.stdout
    assert " ms " in done.stdout
