"""To develop without Docker."""

import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import psycopg

from tests.browser import browser
from tests.devstack.devstack import Devstack, devstack
from tests.first_hour import LIVE, SIZE, Steps, add_package, first_hour, size


def test_the_first_hour(make_project: Callable[..., Path]) -> None:
    project = make_project("first_hour")

    def run(program: str, *arguments: str, **environment: str) -> str:
        command = [project / ".venv" / "bin" / program, *arguments]
        done = subprocess.run(command, cwd=project, env=os.environ | environment, capture_output=True, text=True)
        return done.stdout + done.stderr

    steps = Steps()
    with devstack(project, "--reload") as stack:
        steps.done("make devstack")
        picture = first_hour(project, stack.url, run, lambda: stack.output)
        steps = Steps()
        url = gui(stack)
        done = subprocess.run(
            ["make", "--old-file", ".venv/installed", "psql"], cwd=project, input="TABLE shop_thing; SELECT current_user",
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        assert "(1 row)" in done.stdout and "owner" in done.stdout
        steps.done("make psql")
        assert stack.ctrl_c() == 0
        steps.done("Ctrl-C")
    # Without a devstack that runs they start one.
    printed = run("pytest", "--cov")
    assert "1 failed" in printed
    covered = re.findall(r"^(\S+\.py) .* \d+%", printed, flags=re.MULTILINE)
    assert {file.split("/")[0] for file in covered} == {"articles", "shop", "users"}, printed
    assert not [file for file in covered if re.search("migrations/|tests", file)]
    # A file that cannot be imported is told as pytest tells it.
    (project / "shop" / "test_typo.py").write_text("import nothing_here\n")
    assert re.search(r"No module named 'nothing_here'\n.*\n.*test_typo.py\n.*1 error", run("pytest", "shop"), re.DOTALL)
    (project / "shop" / "test_typo.py").unlink()
    assert "FAILED (errors=1)" in run("python", "manage.py", "test", "shop")
    if LIVE:
        # Its own: other tests share this one.
        (project / ".venv").unlink()
        subprocess.run(["make", ".venv/installed"], cwd=project, check=True)
        add_package(project, "pillow")
        steps = Steps()
        subprocess.run(["make", "lock"], cwd=project, check=True)
        steps.done("make lock")
        subprocess.run(["make", ".venv/installed"], cwd=project, check=True)
        steps.done("make devstack: installs it")
    steps = Steps()
    with devstack(project, "--reload") as stack:
        steps.done("make devstack, again")
        assert gui(stack) == url
        with browser() as window:
            assert size(window, stack.url + picture) == SIZE
        steps.done("see the picture")
        if LIVE:
            assert run("python", "-c", "import PIL; print('imported')") == "imported\n"


def gui(stack: Devstack) -> str:
    """What one gives to a program that shows tables."""
    url = stack.wait_for(r"PostgreSQL: (\S+) ")
    password = (stack.project / "secrets" / "owner_password").read_text().strip()
    with psycopg.connect(url, password=password) as connection:
        assert connection.execute("SELECT count(*) FROM users_user").fetchone()
    return url
