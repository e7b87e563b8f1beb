"""When tests/base_images/build makes a stand-in, and when it leaves an image alone. The programs that it calls are recorded, and do
nothing; tests/stack/test_base_images.py looks at real images.
"""

import os
import re
import subprocess
from pathlib import Path

import pytest

from tests.baking import TEMPLATE

BUILD = TEMPLATE / "tests" / "base_images" / "build"
# $LABEL is the label of each image that is there; with no LABEL at all none is there. A registry answers if $REGISTRY is set.
DOCKER = """#!/bin/sh
echo "docker $*" >>"$CALLS"
case "$1 $2" in
  "image inspect") test -n "${LABEL+set}" && echo "$LABEL" ;;
  "manifest inspect") test -n "$REGISTRY" ;;
  "import "*) cat >/dev/null ;;
esac
"""
# A tree as debootstrap leaves it, as far as it is read.
DEBOOTSTRAP = """#!/bin/sh
for made in etc/apt/apt.conf.d etc/dpkg/dpkg.cfg.d usr/sbin usr/share/doc usr/share/info usr/share/locale usr/share/man; do
  mkdir -p "$4/$made"
done
"""


@pytest.fixture
def programs(tmp_path: Path) -> Path:
    for name, text in {"docker": DOCKER, "debootstrap": DEBOOTSTRAP, "apt-get": "#!/bin/sh\n"}.items():
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    return tmp_path


def build(programs: Path, **environment: str) -> tuple[str, list[str]]:
    """What it prints, and what it calls."""
    calls = programs / "calls"
    calls.write_text("")
    certificates = programs / "certificates"
    certificates.touch()
    environment = {"CALLS": str(calls), "SSL_CERT_FILE": str(certificates), "REGISTRY": "", **environment}
    path = f"{programs}:{os.environ['PATH']}"
    done = subprocess.run([BUILD], env={**os.environ, "PATH": path, **environment}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout, calls.read_text().splitlines()


def made(calls: list[str]) -> dict[str, str]:
    """Each image that was built under its name, and its label."""
    pattern = r"docker build --label pgstack.stand-in=(\w{16}) --tag (\S+)"
    return {found[2]: found[1] for call in calls if (found := re.match(pattern, call))}


IMAGES = ["postgres:18-trixie", "postgres:17-trixie", "python:3.14-slim-trixie"]


def test_an_official_image_is_left_alone(programs: Path) -> None:
    said, calls = build(programs, LABEL="", REGISTRY="answers")
    assert said == "".join(f"{image}: here\n" for image in IMAGES)
    assert all(call.startswith("docker image inspect") for call in calls)


def test_what_is_missing_is_pulled_where_a_registry_answers(programs: Path) -> None:
    _, calls = build(programs, REGISTRY="answers")
    assert [call.split()[-1] for call in calls if call.startswith("docker pull")] == IMAGES
    assert made(calls) == {}


def test_a_stand_in_that_was_made_from_something_else_is_made_again(programs: Path) -> None:
    labels = made(build(programs, LABEL="true")[1])
    assert list(labels) == IMAGES
    assert len(set(labels.values())) == len(IMAGES)
    for image, label in labels.items():
        said, calls = build(programs, LABEL=label)
        assert f"{image}: here\n" in said
        assert set(made(calls)) == set(IMAGES) - {image}
