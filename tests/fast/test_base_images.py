"""When tests/base_images/build makes a stand-in, and when it leaves an image alone. The programs that it calls are recorded, and do
nothing; tests/stack/test_base_images.py looks at real images.
"""

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.baking import TEMPLATE

IMAGES = ["postgres:18-trixie", "postgres:17-trixie", "python:3.14-slim-trixie", "debian:trixie-slim"]
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
def copy(tmp_path: Path) -> Path:
    """The script, what it reads, and the programs that it calls."""
    for directory in ("base_images", "engine"):
        shutil.copytree(TEMPLATE / "tests" / directory, tmp_path / directory)
    (tmp_path / "certificates").write_text("mine")
    for name, text in {"docker": DOCKER, "debootstrap": DEBOOTSTRAP, "apt-get": "#!/bin/sh\n"}.items():
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    return tmp_path


def build(copy: Path, **environment: str) -> tuple[str, list[str]]:
    """What it prints, and what it calls."""
    calls = copy / "calls"
    calls.write_text("")
    path = f"{copy}:{os.environ['PATH']}"
    given = {
        "PATH": path,
        "CALLS": str(calls),
        "SSL_CERT_FILE": str(copy / "certificates"),
        "REGISTRY": "",
        **environment,
    }
    command = copy / "base_images" / "build"
    done = subprocess.run([command], env={**os.environ, **given}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout, calls.read_text().splitlines()


def made(calls: list[str]) -> dict[str, str]:
    """Each image that was built under its name, and its label."""
    pattern = r"docker build --label pgstack.stand-in=(\w{16}) --tag (\S+)"
    return {found[2]: found[1] for call in calls if (found := re.match(pattern, call))}


def test_an_official_image_is_left_alone(copy: Path) -> None:
    said, calls = build(copy, LABEL="", REGISTRY="answers")
    assert said == "".join(f"{image}: here\n" for image in IMAGES)
    assert all(call.startswith("docker image inspect") for call in calls)


def test_what_is_missing_is_pulled_where_a_registry_answers(copy: Path) -> None:
    _, calls = build(copy, REGISTRY="answers")
    assert [call.split()[-1] for call in calls if call.startswith("docker pull")] == IMAGES
    assert made(calls) == {}


def test_a_stand_in_is_made_once(copy: Path) -> None:
    labels = made(build(copy, LABEL="true")[1])
    assert list(labels) == IMAGES
    for image, label in labels.items():
        said, calls = build(copy, LABEL=label)
        assert f"{image}: here\n" in said
        assert set(made(calls)) == set(IMAGES) - {image}


@pytest.mark.parametrize(
    ("file", "old", "new", "images"),
    [
        ("base_images/postgres/docker-entrypoint.sh", "trust", "none", IMAGES[:2]),
        ("base_images/python/Dockerfile", "netbase", "", IMAGES[2:3]),
        ("base_images/build", "PG_MAJOR=17", "PG_MAJOR=16", IMAGES[1:2]),
        ("base_images/build", "exit 101", "exit 0", IMAGES),
        ("certificates", "mine", "others", IMAGES[2:3]),
    ],
    ids=["entrypoint", "Dockerfile", "argument", "Debian", "certificates"],
)
def test_a_stand_in_is_made_again_when_what_it_is_made_from_changes(
    copy: Path, file: str, old: str, new: str, images: list[str]
) -> None:
    before = made(build(copy)[1])
    text = (copy / file).read_text()
    assert old in text
    (copy / file).write_text(text.replace(old, new))
    after = made(build(copy)[1])
    assert [image for image in IMAGES if before[image] != after[image]] == images
