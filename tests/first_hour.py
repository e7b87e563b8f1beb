"""What a new developer does in the first hour, by the commands of the project's docs/develop.md."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import requests

from tests.baking import edit
from tests.waiting import eventually

MODELS = """
from django.db import models

class Thing(models.Model):
    name = models.CharField(max_length=50)
    picture = models.FileField(upload_to="things", blank=True)
"""
ADMIN = """
from django.contrib import admin
from shop.models import Thing

admin.site.register(Thing)
"""
PICTURE = "GIF89a and so on"
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


def first_hour(project: Path, url: str, run: Callable[..., str], terminal: Callable[[], str]) -> str:
    """
    :return: the path of a picture that was uploaded
    :param url: where the site is
    :param run: runs a command as the documentation writes it after `docker compose exec web` or `.venv/bin/`, with
        environment variables; what it prints
    :param terminal: what the site has printed
    """
    run("python", "manage.py", "startapp", "shop")
    assert "All checks passed!" in run("ruff", "check", "shop")
    assert "already formatted" in run("ruff", "format", "--check", "shop")
    edit(project / "config" / "settings.py", '    "users",\n', '    "users",\n    "shop",\n')
    (project / "shop" / "models.py").write_text(MODELS)
    (project / "shop" / "admin.py").write_text(ADMIN)
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
    login = {"username": "ann@example.org", "password": PASSWORD}
    assert "Site administration" in submit(visitor, f"{url}/admin/login/?next=/admin/", **login)
    files = {"picture": ("box.gif", PICTURE.encode())}
    assert "was added successfully" in submit(visitor, f"{url}/admin/shop/thing/add/", files, name="box")
    shows(f"{url}/media/things/box.gif", PICTURE)

    # Mail is in the terminal.
    assert "Forgotten your" in requests.get(f"{url}/admin/login/").text
    assert "We’ve emailed you" in submit(requests.Session(), f"{url}/admin/password_reset/", email="ann@example.org")
    link = eventually(lambda: re.search(r"https?://\S+(/reset/\S+)", terminal()))[1]
    visitor = requests.Session()
    form = visitor.get(url + link).url
    new = {"new_password1": PASSWORD + "8", "new_password2": PASSWORD + "8"}
    assert "Your password has been set" in submit(visitor, form, **new)
    login["password"] += "8"
    assert "Site administration" in submit(requests.Session(), f"{url}/admin/login/?next=/admin/", **login)
    # DEBUG: an error shows itself.
    edit(project / "shop" / "views.py", "Thing.objects.count()", "1 / 0")
    shows(f"{url}/shop/", "ZeroDivisionError")
    return "/media/things/box.gif"


def submit(visitor: requests.Session, url: str, files: Any = None, **fields: str) -> str:
    """The page that follows on a form."""
    token = re.search(r'name="csrfmiddlewaretoken" value="(\w+)"', visitor.get(url).text)
    assert token
    return visitor.post(url, data={"csrfmiddlewaretoken": token[1], **fields}, files=files).text


def shows(url: str, text: str) -> None:
    """Waits until the page holds the text.

    :raises AssertionError: with the last page, if it never does
    """
    last = ""

    def seen() -> bool:
        nonlocal last
        try:
            last = requests.get(url, timeout=10).text
        except requests.ConnectionError as error:  # it starts again
            last = str(error)
        return text in last

    try:
        eventually(seen)
    except AssertionError as error:
        raise AssertionError(f"{url} does not show {text!r}: {last}") from error
