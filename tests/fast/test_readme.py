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
