"""Compiles the locks: this template's, and the two of the generated project (`make lock`).

A lock holds versions and hashes, and no download address: pip and uv take that from the machine's configuration.
"""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.baking import PROJECT, TEMPLATE, bake

# 3.11 is the oldest; from 3.12 on Django is 6.1; the image has 3.14.
PYTHONS = ["3.11", "3.12", "3.14"]


def uv(*arguments: str) -> None:
    subprocess.run([sys.executable, "-m", "uv", "pip", *arguments], check=True)


def compile_lock(pyproject: Path, lock: Path, *extras: str) -> None:
    """Compiles in place: what the lock holds is kept as long as it satisfies pyproject.toml."""
    chosen = [option for extra in extras for option in ("--extra", extra)]
    # No header and no annotations: they would hold paths and the project's name.
    options = ["--quiet", "--universal", "--generate-hashes", "--no-header", "--no-annotate"]
    uv("compile", *options, "--python-version", PYTHONS[0], *chosen, "--output-file", str(lock), str(pyproject))


def assert_installs(lock: Path, python: str, target: Path) -> None:
    """On this Python, each pin has a wheel with a hash that the lock knows."""
    options = ["--quiet", "--dry-run", "--require-hashes", "--no-deps", "--only-binary", ":all:"]
    uv("install", *options, "--python-version", python, "--target", str(target), "--requirement", str(lock))


def locks(project: Path) -> dict[Path, tuple[Path, tuple[str, ...]]]:
    """Each committed lock: the pyproject.toml that it belongs to, and the extras in it. `project` is a generated one."""
    return {
        TEMPLATE / "requirements.txt": (TEMPLATE / "pyproject.toml", ("dev",)),
        PROJECT / "requirements.txt": (project / "pyproject.toml", ()),
        PROJECT / "requirements-dev.txt": (project / "pyproject.toml", ("dev",)),
    }


def main() -> None:
    with tempfile.TemporaryDirectory() as directory:
        for lock, (pyproject, extras) in locks(bake(Path(directory), hooks=False)).items():
            compiled = Path(directory) / "lock.txt"
            shutil.copy(lock, compiled) if lock.exists() else compiled.unlink(missing_ok=True)
            compile_lock(pyproject, compiled, *extras)
            for python in PYTHONS:
                assert_installs(compiled, python, Path(directory) / "target")
            shutil.copy(compiled, lock)


if __name__ == "__main__":
    main()
