"""CACHE_BACKEND=valkey: one cache for all processes, without which the site goes on."""

import json
from collections.abc import Iterator

import pytest

from tests.baking import edit
from tests.conftest import MakeStack
from tests.stack.stack import Stack
from tests.waiting import eventually

# Which process answers, and how many answers all of them have counted. incr() raises ValueError where the
# key is missing, as Django's documentation has it: a cache may come back between the two operations.
VIEW = """
import os

from django.core.cache import cache
from django.http import JsonResponse


def counted(request):
    cache.add("answers", 0)
    try:
        number = cache.incr("answers")
    except ValueError:
        number = None
    return JsonResponse({"process": os.getpid(), "number": number})


"""
FILL = """
from django.core.cache import cache

for number in range(600):
    cache.set(f"filling {number}", "x" * 1_000_000)
"""


@pytest.fixture(scope="module")
def stack(make_stack: MakeStack) -> Iterator[Stack]:
    with make_stack() as stack:
        stack.edit_env(CACHE_BACKEND="valkey")
        edit(
            stack.project / "config" / "urls.py",
            "urlpatterns = [",
            VIEW + 'urlpatterns = [\n    path("counted", counted),',
        )
        stack.up("--build")
        yield stack


def counted(stack: Stack) -> dict[str, int]:
    answer = stack.get("/counted")
    assert answer.status_code == 200, answer.text
    return answer.json()


def keeps(stack: Stack, key: str) -> bool:
    """Whether a process that just begins can keep something."""
    kept = f"from django.core.cache import cache; cache.set('{key}', 'kept'); print(cache.get('{key}'))"
    return stack.shell(kept).endswith("kept")


def test_all_processes_have_one_cache(stack: Stack) -> None:
    seen = []

    def two_processes() -> bool:
        seen.append(counted(stack))
        return len({answer["process"] for answer in seen}) == 2

    eventually(two_processes)
    assert [answer["number"] for answer in seen] == list(range(1, len(seen) + 1))
    ask = "from django.core.cache import cache; print(cache.get('answers'))"
    number = stack.shell(ask)
    assert number == str(len(seen))
    # What works with the schema reaches it too.
    run = ["run", "--rm", "-T", "migrate", "python", "manage.py", "shell", "--verbosity", "0", "-c"]
    assert stack.compose(*run, ask).stdout.split()[-1] == number


def test_nobody_reads_it_without_the_password(stack: Stack) -> None:
    password = stack.secret("cache_password")
    assert password not in json.dumps(stack.inspect("cache")) + stack.logs("cache")

    def cli(*command: str, **environment: str) -> str:
        done = stack.attempt("cache", "valkey-cli", *command, **environment)
        return done.stdout + done.stderr

    assert cli("ping") == "PONG\n"
    for command in (("get", "answers"), ("keys", "*"), ("flushall",), ("acl", "list"), ("config", "get", "*")):
        assert "NOPERM" in cli(*command), command
    as_site = ("--user", "cache")
    assert "1" in cli(*as_site, "dbsize", REDISCLI_AUTH=password)
    assert "NOPERM" in cli(*as_site, "config", "set", "dir", "/tmp", REDISCLI_AUTH=password)
    assert "WRONGPASS" in cli(*as_site, "dbsize", REDISCLI_AUTH=password + "x")
    assert stack.exec("cache", "id", "-u") == "999"


def test_it_makes_room_when_it_is_full(stack: Stack) -> None:
    assert keeps(stack, "first")
    stack.shell(FILL)
    assert keeps(stack, "last")
    kept = int(stack.shell("from django.core.cache import cache; print(len(cache.keys('filling *')))"))
    assert 20 < kept < 200
    assert stack.inspect("cache")["RestartCount"] == 0


@pytest.mark.parametrize("gone", ["stop", "pause"])
def test_without_it_no_request_fails(stack: Stack, gone: str) -> None:
    assert keeps(stack, "before")
    stack.compose(gone, "cache")
    try:
        answers = [counted(stack) for _ in range(4)]
        assert {answer["number"] for answer in answers} == {None}
        assert stack.get("/").status_code == 200 and stack.ready()
        assert "django_redis" in stack.logs("web")
    finally:
        stack.compose("start" if gone == "stop" else "unpause", "cache")
    eventually(lambda: counted(stack)["number"])
