"""An editor at work in the admin, in a browser, while no replica replays anything: each page is as new as their last
click.
"""

import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
import requests
from selenium import webdriver
from selenium.common.exceptions import WebDriverException
from selenium.webdriver.common.by import By
from selenium.webdriver.support.expected_conditions import staleness_of
from selenium.webdriver.support.wait import WebDriverWait

from tests.baking import bake, edit_env, free_port
from tests.devstack.devstack import Devstack, browser, devstack, manage

REPLICAS = ("replica-1", "replica-2")
# Seconds after the pause. MAX_STALENESS is 10: until then replicas serve, and only tokens keep the editor from them.
LATER, END = 15, 30
OLD_ARTICLE = """
from articles.models import Article
from django.utils.timezone import now
Article.objects.create(title="Old", slug="old", published_at=now())
"""


@pytest.fixture(scope="module")
def baked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    project = bake(tmp_path_factory.mktemp("browser"), project_slug="my_site", replicas=str(len(REPLICAS)))
    edit_env(project, WEB_PORT=str(free_port()))
    subprocess.run(["make", ".venv/installed"], cwd=project, check=True, capture_output=True)
    return project


@pytest.fixture
def project(baked: Path, request: pytest.FixtureRequest) -> Iterator[Path]:
    """With the test's parameter at the end of its settings, and no data yet."""
    settings = baked / "config" / "settings.py"
    before = settings.read_text()
    settings.write_text(before + request.param)
    yield baked
    settings.write_text(before)
    shutil.rmtree(baked / ".devstack")


def superuser(project: Path, node: str) -> "psycopg.Connection[tuple[str]]":
    """Past everything, to one node: over its socket, whose superuser is the system user that owns the data."""
    (pid_file,) = (project / ".devstack" / node).glob("*/docker/postmaster.pid")
    port, directory = pid_file.read_text().splitlines()[3:5]
    mine = os.geteuid()
    os.seteuid(pid_file.stat().st_uid)
    try:
        return psycopg.connect(host=directory, port=port, user="postgres", dbname="my_site", autocommit=True)
    finally:
        os.seteuid(mine)


def titles(project: Path, node: str) -> list[str]:
    with superuser(project, node) as connection:
        return [title for (title,) in connection.execute("SELECT title FROM articles_article")]


def eventually(project: Path, title: str) -> None:
    """Until this is what each replica has."""
    deadline = time.monotonic() + 20
    while any(titles(project, node) != [title] for node in REPLICAS):
        assert time.monotonic() < deadline, title
        time.sleep(0.1)


@contextmanager
def replay_paused(project: Path) -> Iterator[None]:
    def everywhere(sql: str) -> None:
        for node in REPLICAS:
            with superuser(project, node) as connection:
                connection.execute(sql)

    everywhere("SELECT pg_wal_replay_pause()")
    try:
        yield
    finally:
        everywhere("SELECT pg_wal_replay_resume()")


class Editor:
    def __init__(self, window: webdriver.Chrome, url: str) -> None:
        self.window, self.url = window, url

    def sees(self, selector: str) -> str:
        return self.window.find_element(By.CSS_SELECTOR, selector).text

    def opens(self, path: str) -> None:
        self.window.get(self.url + path)

    def clicks(self, selector: str) -> None:
        """And waits for the next page: a POST takes its time."""
        button = self.window.find_element(By.CSS_SELECTOR, selector)
        button.click()
        # While the pages change, Chrome's driver may answer with an error of its own (SeleniumHQ/selenium#15401): ask again.
        WebDriverWait(self.window, 20, ignored_exceptions=[WebDriverException]).until(staleness_of(button))

    def sends(self, button: str = "input[type=submit]", **fields: str) -> None:
        for name, value in fields.items():
            field = self.window.find_element(By.NAME, name)
            field.clear()
            field.send_keys(value)
        self.clicks(button)

    def logs_in(self, password: str) -> None:
        self.opens("/admin/")
        self.sends(username="ada", password=password)

    def logs_out(self) -> None:
        self.clicks("#logout-form button")
        assert "Log in again" in self.sees("#content")
        self.opens("/admin/")
        assert self.window.find_elements(By.NAME, "username")

    def works(self, title: str, instead_of: str, password: str, new_password: str) -> None:
        """Adds one article, edits it, deletes another, changes the password, comes back. Looks at every page."""
        article = {"slug": title.lower(), "author_name": "Ada", "body": "…", "published_at_0": "2024-05-06"}
        self.opens("/admin/articles/article/add/")
        self.sends("[name=_save]", title="Draft", **article, published_at_1="07:08:09")
        assert "“Draft” was added successfully" in self.sees(".messagelist .success")
        assert self.listed() == {"Draft", instead_of}

        self.clicks("#result_list tbody tr:first-child a")
        self.sends("[name=_save]", title=title)
        assert f"“{title}” was changed successfully" in self.sees(".messagelist .success")
        assert self.listed() == {title, instead_of}
        self.opens(f"/articles/{title.lower()}/")
        assert self.sees("h1") == title

        self.opens("/admin/articles/article/")
        self.clicks("#result_list tbody tr:last-child a")
        self.clicks(".deletelink")
        self.sends("#content input[type=submit]")
        assert f"“{instead_of}” was deleted successfully" in self.sees(".messagelist .success")
        assert self.listed() == {title}
        self.opens("/")
        assert title in self.sees("main") and instead_of not in self.sees("main")

        self.opens("/admin/password_change/")
        self.sends(old_password=password, new_password1=new_password, new_password2=new_password)
        assert "Your password was changed" in self.sees("#content")
        self.opens("/admin/articles/article/")
        assert self.listed() == {title}

        self.logs_out()
        self.logs_in(password)
        assert "Please enter the correct username and password" in self.sees(".errornote")
        self.logs_in(new_password)
        assert "ADA" in self.sees("#user-tools")

    def listed(self) -> set[str]:
        return {row.text for row in self.window.find_elements(By.CSS_SELECTOR, "#result_list .field-title")}


def wait_until(moment: float) -> None:
    time.sleep(max(0.0, moment - time.monotonic()))


def replicas_serve(stack: Devstack) -> None:
    """Until pages come from them one after the other: a worker process reads the primary first, and then asks where
    the replicas stand.
    """
    deadline, in_a_row = time.monotonic() + 20, 0
    while in_a_row < 10:
        assert time.monotonic() < deadline
        page = requests.get(stack.url + "/", timeout=10).text
        in_a_row = in_a_row + 1 if 'class="database replica"' in page else 0


def assert_nothing_failed(stack: Devstack, until: str) -> None:
    """By the site's own log, read as far as this last request."""
    requests.get(f"{stack.url}/livez?{until}", timeout=10)
    stack.wait_for(rf"livez\?{until} HTTP/1.1\" (200)")
    assert re.findall(r'"POST /admin/articles/\S+ HTTP/1.1" 302', stack.output)
    assert re.findall(r'.+HTTP/1.1" 5\d\d.*', stack.output) == []


@pytest.mark.parametrize(
    ("project", "a_strangers_title"),
    [
        # Who has written nothing is shown what is at most 10 s old.
        pytest.param("", "Second", id="as-generated"),
        # Here replicas serve to the end, so that nothing but tokens keeps the editor from them.
        pytest.param('DBROUTING |= {"MAX_STALENESS": 300, "TOKEN_LIFE": 900}\n', "Old", id="replicas-never-lag"),
    ],
    indirect=["project"],
)
def test_an_editor_sees_their_own_work(project: Path, a_strangers_title: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DJANGO_SUPERUSER_PASSWORD", "analytical engine")
    with devstack(project) as stack, browser() as window:
        manage(project, "createsuperuser", "--noinput", "--username=ada", "--email=ada@example.org")
        editor = Editor(window, stack.url)
        editor.logs_in("analytical engine")
        # After it, so what has the article has that session too. Those that follow are made while nothing is replayed.
        manage(project, "shell", "-c", OLD_ARTICLE)
        eventually(project, "Old")
        replicas_serve(stack)

        with replay_paused(project):
            paused = time.monotonic()
            editor.works("First", "Old", "analytical engine", "difference engine")
            assert_nothing_failed(stack, until="first")
            wait_until(paused + LATER)
            editor.works("Second", "First", "difference engine", "analytical engine")
            assert_nothing_failed(stack, until="second")
            wait_until(paused + END)
            # All of this while the replicas had nothing of it.
            assert [titles(project, node) for node in REPLICAS] == [["Old"], ["Old"]]
            assert f">{a_strangers_title}<" in requests.get(stack.url + "/", timeout=10).text
        eventually(project, "Second")
