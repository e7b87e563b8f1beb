"""A job of a generated project's workflow, run as its runner does after the checkout."""

import subprocess
from pathlib import Path
from typing import Any

import yaml

WORKFLOW = Path(".github") / "workflows" / "ci.yml"


def job(project: Path, name: str) -> list[dict[str, Any]]:
    """Its steps."""
    steps: list[dict[str, Any]] = yaml.safe_load((project / WORKFLOW).read_text())["jobs"][name]["steps"]
    return steps


def run_job(project: Path, name: str) -> str:
    """What its steps print, without those for a failure.

    :raises AssertionError: for a step that fails
    """
    printed = ""
    for step in job(project, name):
        if "run" in step and "if" not in step:
            # https://docs.github.com/actions/reference/workflows-and-actions/workflow-syntax, jobs.<job_id>.steps[*].shell
            done = subprocess.run(["bash", "-e", "-c", step["run"]], cwd=project, capture_output=True, text=True)
            print(step["run"], done.stdout[-5000:], done.stderr[-5000:])
            assert done.returncode == 0, step["run"]
            printed += done.stdout
    return printed
