"""A project whose developer has removed the example."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import requests

from tests.devstack.devstack import devstack, manage


def test_the_project_is_whole_without_its_example(make_project: Callable[..., Path]) -> None:
    """Lint, types, the developer's tests and those of the packages from the template; its migrations; its site."""
    project = make_project("bare_site", replicas="2")
    for targets in (["remove-example"], ["test"], ["test-stack"]):
        # The other project's virtual environment is not to be made anew.
        command = ["make", "--old-file", ".venv/installed", *targets]
        done = subprocess.run(command, cwd=project, capture_output=True, text=True)
        print(done.stdout[-10_000:], done.stderr[-5_000:])
        assert done.returncode == 0, targets
    assert not (project / "articles").exists()
    with devstack(project) as stack:
        assert "No changes detected" in manage(project, "makemigrations", "--check")
        for path, status, text in (
            ("livez", 200, ""),
            ("admin/login/", 200, "Log in"),
            # The frame of the pages is the project's.
            ("", 404, "There is nothing here"),
        ):
            page = requests.get(f"{stack.url}/{path}", timeout=30)
            assert (page.status_code, text in page.text) == (status, True), path
