"""Clones of a repository as other people's systems make them."""

import os
import subprocess
from pathlib import Path


def clone(source: Path, target: Path, *, autocrlf: bool, umask: int) -> Path:
    """What git knows of `source`, a directory of which git may know nothing yet, cloned to `target`."""
    git(source, "init", "--quiet")
    git(source, "add", "--all")
    git(source, "-c", "user.name=a", "-c", "user.email=a@example.org", "commit", "--quiet", "--message=a")
    target.parent.mkdir(parents=True, exist_ok=True)
    before = os.umask(umask)
    try:
        git(source, "clone", "--quiet", "--config", f"core.autocrlf={str(autocrlf).lower()}", str(source), str(target))
    finally:
        os.umask(before)
    return target


def git(directory: Path, *arguments: str) -> None:
    subprocess.run(["git", *arguments], cwd=directory, check=True)
