"""The locks satisfy their pyproject.toml, are complete with hashes, and hold no address. What they hold is read, and nothing is
resolved: an index may change or be away. That pip installs them is seen wherever they are used, in `make` and in the image.
"""

import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.baking import bake
from tests.lock import PYTHONS, locks

NAMES = ["template", "project", "project-dev"]
Lock = tuple[Path, Path, tuple[str, ...]]


@pytest.fixture(params=range(3), ids=NAMES)
def lock(request: pytest.FixtureRequest, tmp_path: Path) -> Lock:
    """A lock, the pyproject.toml that it belongs to, and the extras in it."""
    found = list(locks(bake(tmp_path / "project", hooks=False)).items())
    assert len(found) == len(NAMES)
    path, (pyproject, extras) = found[request.param]
    return path, pyproject, extras


def lines(lock: Path) -> list[str]:
    return re.sub(r"\\\n\s*", "", lock.read_text()).splitlines()


def pins(lock: Path, python: str, platform: str) -> list[Requirement]:
    requirements = [Requirement(line.split(" --hash=")[0]) for line in lines(lock)]
    return [one for one in requirements if applies(one, python, platform)]


def applies(requirement: Requirement, python: str, platform: str) -> bool:
    here = {"python_version": python, "python_full_version": f"{python}.0", "sys_platform": platform}
    return requirement.marker is None or requirement.marker.evaluate({**default_environment(), **here})


def wanted(pyproject: Path, extras: tuple[str, ...]) -> list[Requirement]:
    project = tomllib.loads(pyproject.read_text())["project"]
    optional = [line for extra in extras for line in project["optional-dependencies"][extra]]
    return [Requirement(line) for line in [*project["dependencies"], *optional]]


@pytest.mark.parametrize("platform", ["linux", "darwin"])
@pytest.mark.parametrize("python", PYTHONS)
def test_it_satisfies_pyproject_toml(lock: Lock, python: str, platform: str) -> None:
    """After an edit of pyproject.toml: make lock."""
    path, pyproject, extras = lock
    pinned = pins(path, python, platform)
    names = [canonicalize_name(pin.name) for pin in pinned]
    assert len(names) == len(set(names)), "two versions of one package"
    for requirement in wanted(pyproject, extras):
        if applies(requirement, python, platform):
            found = [pin for pin in pinned if canonicalize_name(pin.name) == canonicalize_name(requirement.name)]
            assert len(found) == 1, f"{requirement} is not in {path.name}"
            (version,) = found[0].specifier
            assert requirement.specifier.contains(version.version), f"{path.name} has {found[0]}, not {requirement}"


def test_django_is_the_one_for_each_python(lock: Lock) -> None:
    for python in PYTHONS:
        django = [str(pin.specifier) for pin in pins(lock[0], python, "linux") if pin.name == "django"]
        series = ["==5.2" if python == "3.11" else "==6.1"] if lock[1].parent.name == "my_site" else []
        assert [re.match(r"==\d+\.\d+", version)[0] for version in django] == series


def test_what_is_installed_here_fits_together() -> None:
    """The template's lock, installed without a look at what its packages need: it names all of it."""
    done = subprocess.run([sys.executable, "-m", "pip", "check"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_it_names_no_address(lock: Lock) -> None:
    assert not re.search(r"https?:|index-url|find-links|/", lock[0].read_text())


def test_every_requirement_is_pinned_and_hashed(lock: Lock) -> None:
    requirements = lines(lock[0])
    assert len(requirements) > 15
    for requirement in requirements:
        assert re.match(r"[\w.\[\],-]+==\S+ .*--hash=sha256:[0-9a-f]{64}", requirement), requirement
