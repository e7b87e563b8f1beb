"""`make share`: which part of the reads replicas serve, and what the routing costs. Prints two Markdown tables."""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.baking import bake

with tempfile.TemporaryDirectory(prefix="share-") as scratch:
    project = bake(Path(scratch), project_name="Share", project_slug="share_site", replicas="2")
    subprocess.run(["make", ".venv/installed"], cwd=project, check=True, stdout=subprocess.DEVNULL)
    script = Path(__file__).parent / "in_project.py"
    done = subprocess.run(
        [project / ".venv/bin/python", script], cwd=project, env=os.environ | {"PYTHONPATH": str(project)}
    )
sys.exit(done.returncode)
