"""A clone starts by the two commands that its README names."""

import re
import subprocess
from pathlib import Path

import pytest

from tests.baking import free_port
from tests.cloning import clone
from tests.conftest import MakeStack
from tests.waiting import eventually


@pytest.mark.parametrize(
    ("autocrlf", "umask"), [(True, 0o077), (False, 0o027)], ids=["autocrlf, umask 077", "umask 027"]
)
def test_a_clone_starts(make_stack: MakeStack, tmp_path: Path, autocrlf: bool, umask: int) -> None:
    with make_stack() as stack:
        there = tmp_path / "Größe & Maß, 東京"
        stack.project = clone(stack.project, there / "a clone", autocrlf=autocrlf, umask=umask)
        subprocess.run(["make", "setup"], cwd=stack.project, check=True, umask=umask)
        stack.port = free_port()
        stack.edit_env(WEB_PORT=str(stack.port), SHOW_ROUTING="on")
        stack.up("--build")
        assert re.findall(".*(?:FATAL|ERROR|WARNING|pg_ctl).*", stack.logs("primary")) == [], "of a first boot"
        stack.an_article()
        eventually(lambda: 'class="database replica"' in stack.get("/").text)
