"""What a new developer does in the first hour, by the commands of the project's docs/develop.md."""

import re
from collections.abc import Callable
from pathlib import Path

import requests

from tests.waiting import eventually

MODELS = """
from django.db import models

class Thing(models.Model):
    name = models.CharField(max_length=50)
"""
VIEWS = """
from django.shortcuts import render
from shop.models import Thing

def things(request):
    return render(request, "shop/things.html", {"word": "first", "number": Thing.objects.count()})
"""
TESTS = """
from django.test import TestCase
from shop.models import Thing

class ThingsTest(TestCase):
    def test_page(self):
        Thing.objects.create(name="box")
        self.assertContains(self.client.get("/shop/"), "number 1")
"""
PASSWORD = "a long word 77"


def first_hour(project: Path, url: str, run: Callable[..., str]) -> None:
    """
    :param url: where the site is
    :param run: runs a command as the documentation writes it after `docker compose exec web` or `.venv/bin/`, with
        environment variables; what it prints
    """
    run("python", "manage.py", "startapp", "shop")
    assert "All checks passed!" in run("ruff", "check", "shop")
    assert "already formatted" in run("ruff", "format", "--check", "shop")
    edit(project / "config" / "settings.py", '    "articles",\n', '    "articles",\n    "shop",\n')
    (project / "shop" / "models.py").write_text(MODELS)
    (project / "shop" / "views.py").write_text(VIEWS)
    template = project / "shop" / "templates" / "shop" / "things.html"
    template.parent.mkdir(parents=True)
    template.write_text("{{ word }} word, number {{ number }}")
    urls = project / "config" / "urls.py"
    edit(urls, "from config.health", "from shop.views import things\nfrom config.health")
    edit(urls, 'path("admin/"', 'path("shop/", things),\n    path("admin/"')
    assert "shop/migrations/0001_initial.py" in run("python", "manage.py", "makemigrations", "shop")
    assert "Applying shop.0001_initial... OK" in run("python", "manage.py", "migrate")
    shows(f"{url}/shop/", "first word, number 0")
    template.write_text("{{ word }} phrase, number {{ number }}")
    shows(f"{url}/shop/", "first phrase, number 0")
    edit(project / "shop" / "views.py", '"first"', '"second"')
    shows(f"{url}/shop/", "second phrase, number 0")

    (project / "shop" / "tests.py").write_text(TESTS)
    assert "1 passed" in run("pytest", "shop")
    edit(project / "shop" / "tests.py", "number 1", "number 2")
    assert "1 failed" in run("pytest", "shop", "-k", "test_page")
    edit(project / "shop" / "tests.py", "number 2", "number 1")
    assert "Ran 1 test" in run("python", "manage.py", "test", "shop")

    run(
        "python", "manage.py", "createsuperuser", "--noinput", "--username=ann", "--email=ann@example.org",
        DJANGO_SUPERUSER_PASSWORD=PASSWORD,
    )  # fmt: skip
    visitor = requests.Session()
    form = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', visitor.get(f"{url}/admin/").text)
    assert form
    fields = {"csrfmiddlewaretoken": form[1], "username": "ann@example.org", "password": PASSWORD}
    assert "Site administration" in visitor.post(f"{url}/admin/login/?next=/admin/", data=fields).text
    # DEBUG: an error shows itself.
    edit(project / "shop" / "views.py", "Thing.objects.count()", "1 / 0")
    shows(f"{url}/shop/", "ZeroDivisionError")


def edit(file: Path, old: str, new: str) -> None:
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))


def shows(url: str, text: str) -> None:
    def seen() -> bool:
        try:
            return text in requests.get(url, timeout=10).text
        except requests.ConnectionError:  # it starts again
            return False

    eventually(seen)
