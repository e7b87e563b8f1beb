"""What a new developer does in the first hour, by the commands of the project's docs/develop.md."""

import os
import re
import time
from base64 import b64decode
from collections.abc import Callable
from pathlib import Path

import requests
from selenium import webdriver
from selenium.webdriver.common.by import By

from tests.baking import edit
from tests.browser import browser, leads_on, send
from tests.waiting import eventually

# To resolve asks the package index, which others change: `make torture` does that.
LIVE = os.environ.get("LIVE_INDEX", "0") == "1"
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
SIZE = [7, 5]
PICTURE = b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAcAAAAFCAAAAACs8akEAAAAE0lEQVR42mNgkLOJqpi2hYEADQDl2AxP5jVUCQAAAABJRU5ErkJggg=="
)
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
    steps = Steps()
    run("python", "manage.py", "startapp", "shop")
    assert "All checks passed!" in run("ruff", "check", "shop")
    assert "already formatted" in run("ruff", "format", "--check", "shop")
    steps.done("python manage.py startapp shop; ruff")
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
    steps.done("python manage.py makemigrations")
    assert "Applying shop.0001_initial... OK" in run("python", "manage.py", "migrate")
    steps.done("python manage.py migrate")
    shows(f"{url}/shop/", "first word, number 0")
    steps.done("see the new page")
    template.write_text("{{ word }} phrase, number {{ number }}")
    shows(f"{url}/shop/", "first phrase, number 0")
    steps.done("edit its template, and see it")
    edit(project / "shop" / "views.py", '"first"', '"second"')
    shows(f"{url}/shop/", "second phrase, number 0")
    steps.done("edit its view, and see it")

    (project / "shop" / "tests.py").write_text(TESTS)
    assert "1 passed" in run("pytest", "shop")
    steps.done("pytest shop")
    edit(project / "shop" / "tests.py", "number 1", "number 2")
    assert "1 failed" in run("pytest", "shop", "-k", "test_page")
    steps.done("pytest shop -k test_page")
    edit(project / "shop" / "tests.py", "number 2", "number 1")
    assert "Ran 1 test" in run("python", "manage.py", "test", "shop")
    steps.done("python manage.py test shop")

    run(
        "python", "manage.py", "createsuperuser", "--noinput", "--username=ann", "--email=ann@example.org",
        DJANGO_SUPERUSER_PASSWORD=PASSWORD,
    )  # fmt: skip
    steps.done("python manage.py createsuperuser")
    # Beside the project: in its directory the reloader would see it.
    picture = project.with_name("box.png")
    picture.write_bytes(PICTURE)
    with browser() as window:
        # In a narrow one the debug toolbar's handle lies on the button.
        window.set_window_size(1200, 900)
        window.get(f"{url}/admin/")
        send(window, "[type=submit]", username="ann@example.org", password=PASSWORD)
        assert "Site administration" in window.title
        steps.done("log in, in a browser")
        window.get(f"{url}/admin/shop/thing/add/")
        send(window, "[name=_save]", name="box", picture=str(picture))
        assert "was added successfully" in window.find_element(By.CSS_SELECTOR, ".messagelist .success").text
        leads_on(window.find_element(By.CSS_SELECTOR, "#result_list tbody a"))
        link = window.find_element(By.PARTIAL_LINK_TEXT, "box.png").get_attribute("href")
        assert link and link.startswith(url)
        assert size(window, link) == SIZE
        steps.done("upload a picture, and see it")

        # Mail is in the terminal.
        window.delete_all_cookies()
        window.get(f"{url}/admin/login/")
        leads_on(window.find_element(By.PARTIAL_LINK_TEXT, "Forgotten your"))
        send(window, "[type=submit]", email="ann@example.org")
        assert "We’ve emailed you" in window.find_element(By.ID, "content").text
        mailed = eventually(lambda: re.search(r"https?://\S+(/reset/\S+)", terminal()))[1]
        window.get(url + mailed)
        send(window, "[type=submit]", new_password1=PASSWORD + "8", new_password2=PASSWORD + "8")
        assert "Your password has been set" in window.find_element(By.ID, "content").text
        window.get(f"{url}/admin/")
        send(window, "[type=submit]", username="ann@example.org", password=PASSWORD + "8")
        assert "Site administration" in window.title
        steps.done("send mail, read it, follow its link")
    # DEBUG: an error shows itself.
    edit(project / "shop" / "views.py", "Thing.objects.count()", "1 / 0")
    shows(f"{url}/shop/", "ZeroDivisionError")
    steps.done("see an error")
    return link.removeprefix(url)


def add_package(project: Path, name: str) -> None:
    """In pyproject.toml, as one edits it."""
    edit(project / "pyproject.toml", '    "gunicorn[gevent]', f'    "{name}",\n    "gunicorn[gevent]')


class Steps:
    """Prints how long each step takes; `pytest -rP` shows it."""

    def __init__(self) -> None:
        self.last = time.monotonic()

    def done(self, what: str) -> None:
        now = time.monotonic()
        print(f"{now - self.last:6.1f} s  {what}")
        self.last = now


def size(window: webdriver.Chrome, picture: str) -> list[int]:
    """Width and height of the picture at this address, as the browser draws it."""
    window.get(picture)
    return window.execute_script("return [document.images[0].naturalWidth, document.images[0].naturalHeight]")  # type: ignore[no-any-return]


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
