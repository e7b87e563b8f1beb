"""The README tells the truth where a test can hold it to it."""

import re

from tests.baking import CHOICES, PROJECT, PROMPTS, TEMPLATE

README = (TEMPLATE / "README.md").read_text()


def test_the_prompts_table_is_cookiecutter_json() -> None:
    rows = re.findall(r"^\| `(\w+)` \| (.+) \|$", README.split("## The prompts")[1].split("##")[0], flags=re.MULTILINE)
    assert [name for name, _ in rows] == [name for name in PROMPTS if name[0] != "_"]
    for name, choices in rows:
        if name in CHOICES:
            assert re.findall(r"`([^`]+)`", choices) == CHOICES[name], name
        else:
            assert choices.startswith("free text")


def test_the_commands_exist() -> None:
    makefiles = (TEMPLATE / "Makefile").read_text() + (PROJECT / "Makefile").read_text()
    targets = re.findall(r"^([\w-]+):", makefiles, flags=re.MULTILINE)
    for target in re.findall(r"`?make ([\w-]+)", README):
        assert target in targets, target


def test_the_rooms_exist() -> None:
    for path in re.findall(r"`(\{\{cookiecutter\.project_slug\}\}/\w+/)`", README):
        assert (TEMPLATE / path).is_dir(), path


def test_the_badges_name_what_the_project_uses() -> None:
    badges = dict(re.findall(r"!\[([A-Za-z]+):? ([^]]+)\]\(https://img\.shields\.io", README))
    oldest = re.search(r'requires-python = ">=([\d.]+)"', (PROJECT / "pyproject.toml").read_text())
    newest = re.search(r"^FROM python:([\d.]+)-", (PROJECT / "Dockerfile").read_text(), flags=re.MULTILINE)
    locked = re.findall(r"^django==(\d+\.\d+)", (PROJECT / "requirements.txt").read_text(), flags=re.MULTILINE)
    assert oldest and newest
    assert badges == {
        "Python": f"{oldest[1]} to {newest[1]}",
        "Django": " and ".join(sorted(locked)),
        "PostgreSQL": " and ".join(sorted(CHOICES["postgres_version"])),
        "License": (TEMPLATE / "LICENSE").read_text().split()[0],
    }
    # A badge's address repeats its words.
    for words, address in re.findall(r"!\[([^]]+)\]\(https://img\.shields\.io/badge/(\S+?)-blue\)", README):
        assert address.replace("-", " ", 1).replace("_", " ").lower() == words.replace(":", "").lower()
    workflow = re.search(r"actions/workflows/(\S+)/badge\.svg", README)
    assert workflow and (TEMPLATE / ".github" / "workflows" / workflow[1]).is_file()
