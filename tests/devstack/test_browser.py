"""An editor at work in the admin, in a browser, while no replica replays anything: each page is as new as their last
click.
"""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psycopg
import pytest
import requests
from selenium import webdriver
from selenium.webdriver.common.by import By

from tests.browser import browser, leads_on, send
from tests.devstack.devstack import Devstack, devstack, manage, nodes, sql, titles
from tests.waiting import eventually

OLD_ARTICLE = """
from articles.models import Article
from django.utils.timezone import now
Article.objects.create(title="Old", slug="old", published_at=now())
"""


@contextmanager
def replay_paused(project: Path) -> Iterator[None]:
    replicas = nodes(project)[1:]
    for node in replicas:
        sql(project, node, "SELECT pg_wal_replay_pause()")
    try:
        yield
    finally:
        for node in replicas:
            # The replay that goes on may cancel the very statement that resumed it.
            with suppress(psycopg.errors.SerializationFailure):
                sql(project, node, "SELECT pg_wal_replay_resume()")


def replicas_have(project: Path, title: str) -> bool:
    return all(titles(project, node) == [title] for node in nodes(project)[1:])


class Editor:
    def __init__(self, window: webdriver.Chrome, url: str) -> None:
        self.window, self.url = window, url

    def sees(self, selector: str) -> str:
        return self.window.find_element(By.CSS_SELECTOR, selector).text

    def opens(self, path: str) -> None:
        self.window.get(self.url + path)

    def clicks(self, selector: str) -> None:
        leads_on(self.window.find_element(By.CSS_SELECTOR, selector))

    def sends(self, button: str = "input[type=submit]", **fields: str) -> None:
        send(self.window, button, **fields)

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


def replicas_serve(stack: Devstack) -> None:
    """Until pages come from them one after the other: a worker process reads the primary first, and then asks where
    the replicas stand.
    """

    def all_of_ten() -> bool:
        pages = (requests.get(stack.url + "/", timeout=30).text for _ in range(10))
        return all('class="database replica"' in page for page in pages)

    eventually(all_of_ten)


def a_stranger_sees(stack: Devstack, title: str) -> bool:
    """Who has written nothing, and brings no token."""
    return f">{title}<" in requests.get(stack.url + "/", timeout=30).text


def assert_nothing_failed(stack: Devstack, until: str) -> None:
    """By the site's own log, read as far as this last request."""
    requests.get(f"{stack.url}/?{until}", timeout=30)
    stack.wait_for(rf"/\?{until} HTTP/1.1\" (200)")
    assert re.findall(r'"POST /admin/articles/\S+ HTTP/1.1" 302', stack.output)
    assert re.findall(r'.+HTTP/1.1" 5\d\d.*', stack.output) == []


@contextmanager
def an_editor_at_work(project: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Devstack, Editor]]:
    """Logged in, while no replica replays anything: they have one article, "Old", and serve it."""
    monkeypatch.setenv("DJANGO_SUPERUSER_PASSWORD", "analytical engine")
    with devstack(project) as stack, browser() as window:
        manage(project, "createsuperuser", "--noinput", "--username=ada", "--email=ada@example.org")
        editor = Editor(window, stack.url)
        editor.logs_in("analytical engine")
        # After it, so what has the article has that session too. Those that follow are made while nothing is replayed.
        manage(project, "shell", "-c", OLD_ARTICLE)
        eventually(lambda: replicas_have(project, "Old"))
        replicas_serve(stack)
        with replay_paused(project):
            yield stack, editor
            assert replicas_have(project, "Old")
        (title,) = titles(project, "primary")
        eventually(lambda: replicas_have(project, title))


def test_an_editor_sees_their_own_work_while_replicas_serve(
    make_project: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing but tokens keeps the editor from what is old: replicas count as fresh to the end."""
    project = make_project("fresh_site", replicas="2")
    with (project / "config" / "settings.py").open("a") as settings:
        settings.write('DBROUTING |= {"MAX_STALENESS": 3600, "TOKEN_LIFE": 36000}\n')
    with an_editor_at_work(project, monkeypatch) as (stack, editor):
        editor.works("First", "Old", "analytical engine", "difference engine")
        assert_nothing_failed(stack, until="first")
        eventually(lambda: a_stranger_sees(stack, "Old"))


def test_an_editor_sees_their_own_work_before_and_after_replicas_lag(
    make_project: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As generated: after ten seconds replicas serve nobody any longer."""
    project = make_project("lagging_site", replicas="2")
    with an_editor_at_work(project, monkeypatch) as (stack, editor):
        editor.works("First", "Old", "analytical engine", "difference engine")
        assert_nothing_failed(stack, until="first")
        eventually(lambda: a_stranger_sees(stack, "First"))
        editor.works("Second", "First", "difference engine", "analytical engine")
        assert_nothing_failed(stack, until="second")
        assert a_stranger_sees(stack, "Second")
