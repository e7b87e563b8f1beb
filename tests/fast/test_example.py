"""`make remove-example` takes the example app out whole, or changes nothing. (That the project works without it: tests/devstack.)"""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.baking import bake
from tests.fast.test_bake import contents

BIN = Path(sys.executable).parent


@pytest.fixture(scope="module")
def generated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return bake(tmp_path_factory.mktemp("example"))


@pytest.fixture
def project(generated: Path, tmp_path: Path) -> Path:
    return shutil.copytree(generated, tmp_path / "project")


def remove_example(project: Path) -> "subprocess.CompletedProcess[str]":
    command = ["make", "--silent", "remove-example", f"PYTHON={sys.executable} -B"]
    return subprocess.run(command, cwd=project, capture_output=True, text=True)


def test_nothing_of_the_example_is_left(project: Path) -> None:
    before = contents(project)
    done = remove_example(project)
    assert done.returncode == 0, done.stderr
    assert "migrate articles zero" in done.stdout
    for name, content in contents(project).items():
        text = content.decode()
        assert not re.search(r"article|remove.example|--seed\b", f"{name}\n{text}", flags=re.IGNORECASE), name
        # No hole where a line was.
        assert text.count("\n\n\n") <= before[name].decode().count("\n\n\n") and not text.endswith("\n\n"), name
    for command in (["check"], ["format", "--check"]):
        linted = subprocess.run(
            [BIN / "ruff", *command, "--no-cache", "."], cwd=project, capture_output=True, text=True
        )
        assert linted.returncode == 0, linted.stdout
    assert "No rule to make target" in remove_example(project).stderr


def test_lines_that_others_need_stay(project: Path) -> None:
    urls = project / "config" / "urls.py"
    urls.write_text(
        urls.read_text().replace("urlpatterns = [", 'urlpatterns = [\n    path("shop/", include("shop.urls")),')
    )
    assert remove_example(project).returncode == 0
    assert "from django.urls import include, path" in urls.read_text()


@pytest.mark.parametrize(
    ("file", "line"),
    [
        ("shop/models.py", "from articles.models import Article"),
        ("shop/models.py", "import articles"),
        ("shop/models.py", 'article = models.ForeignKey("articles.Article", models.CASCADE)'),
        ("shop/migrations/0001_initial.py", 'dependencies = [("articles", "0001_initial")]'),
        ("shop/views.py", 'redirect("articles:list")'),
        ("shop/views.py", "this is no Python"),
        ("templates/shop.html", "<a href=\"{% url 'articles:list' %}\">"),
        ("templates/shop.html", '{% extends "articles/base.html" %}'),
    ],
)
def test_what_still_needs_it_is_told_and_nothing_is_changed(project: Path, file: str, line: str) -> None:
    path = project / file
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"\n{line}\n")
    before = contents(project)
    done = remove_example(project)
    assert done.returncode != 0
    assert f"  {file}:2: " in done.stderr and "Take them out first." in done.stderr
    assert "Traceback" not in done.stderr
    assert contents(project) == before


def test_a_line_that_has_lost_its_mark_is_told(project: Path) -> None:
    settings = project / "config" / "settings.py"
    settings.write_text(settings.read_text().replace("  # remove-example", ""))
    assert '"articles",' in remove_example(project).stderr


def test_where_the_app_is_gone_already_it_says_so(project: Path) -> None:
    shutil.rmtree(project / "articles")
    before = contents(project)
    done = remove_example(project)
    assert done.returncode != 0 and "articles/ is not here" in done.stderr
    assert contents(project) == before


def test_what_is_named_like_it_is_left_alone(project: Path) -> None:
    """A word, a file, a module of another package."""
    other = project / "shop" / "views.py"
    other.parent.mkdir()
    other.write_text('from .articles import x\nnames = ["articles", "articles.json", request.GET.get("articles")]\n')
    before = other.read_text()
    assert remove_example(project).returncode == 0
    assert other.read_text() == before
