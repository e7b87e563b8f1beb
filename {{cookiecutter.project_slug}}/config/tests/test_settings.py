"""Settings as another process sees them, with another environment."""

import json
import os
import subprocess
import sys
from pathlib import Path
from unittest import mock

import django
import psycopg
import pytest
from django.conf import settings
from django.test import RequestFactory, override_settings

from ops.checks import django_has_tasks, libpq_fits

SHOW = """
import json
from config import settings
print(json.dumps({name: getattr(settings, name) for name in dir(settings) if name.isupper()}, default=str))
"""


def run(*command: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    env = {name: value for name, value in os.environ.items() if not name.startswith("DATABASE_") and name != "REPLICAS"}
    return subprocess.run(
        [sys.executable, *command], env=env | environment, cwd=settings.BASE_DIR, capture_output=True, text=True
    )


def loaded(**environment: str) -> dict:
    done = run("-c", SHOW, **environment)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_urls_from_the_environment():
    found = loaded(
        DATABASE_URL="postgresql://u:p@h:1/d",
        DATABASE_REPLICA_URLS="postgresql://u:p@r1/d,postgresql://u:p@r2/d",
        REPLICAS="2",
    )
    assert [entry["HOST"] for entry in found["DATABASES"].values()] == ["h", "r1", "r2"]
    assert found["DBROUTING"]["REPLICAS"] == ["replica", "replica_2"]


def test_urls_from_files(tmp_path: Path):
    """Each as *_FILE, with the newline that editors leave."""
    files = {
        "DATABASE_URL": "postgresql://u:p@h/d\n",
        "DATABASE_REPLICA_URLS": "postgresql://u:p@r1/d,postgresql://u:p@r2/d\n",
        "DATABASE_OWNER_URL": "postgresql://o:p@primary/d\n",
        "SECRET_KEY": "from-a-file-and-long-enough\n",
    }
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    found = loaded(REPLICAS="3", **{f"{name}_FILE": str(tmp_path / name) for name in files})
    assert [(entry["HOST"], entry["NAME"]) for entry in found["DATABASES"].values()] == [
        ("h", "d"),
        ("r1", "d"),
        ("r2", "d"),
    ]
    assert found["SECRET_KEY"] == "from-a-file-and-long-enough"


def test_replicas_limits_the_urls_that_are_used():
    urls = ",".join(f"postgresql://u:p@r{number}/d" for number in (1, 2, 3))
    for replicas, aliases in (("0", []), ("1", ["replica"]), ("2", ["replica", "replica_2"])):
        found = loaded(DATABASE_URL="postgresql://u:p@h/d", DATABASE_REPLICA_URLS=urls, REPLICAS=replicas)
        assert found["DBROUTING"]["REPLICAS"] == aliases


def test_debug_is_off_unless_asked_for():
    assert loaded(DATABASE_URL="postgresql://u:p@h/d", DEBUG="")["DEBUG"] is False


@pytest.mark.parametrize(
    ("site_url", "origins", "hosts"),
    [
        ("http://localhost:8000/", ["http://localhost:8000"], ["localhost"]),
        ("http://[::1]:8000", ["http://[::1]:8000"], ["[::1]"]),
        ("http://[0:0::0:1]", ["http://[::1]"], ["[::1]"]),
        ("https://Bücher.example", ["https://xn--bcher-kva.example"], ["xn--bcher-kva.example"]),
        ("https://straße.example", ["https://xn--strae-oqa.example"], ["xn--strae-oqa.example"]),
        ("HTTPS://WWW.Example.com:443", ["https://www.example.com"], ["www.example.com"]),
        ("https://a.example, http://b:80", ["https://a.example", "http://b"], ["a.example", "b"]),
    ],
)
def test_hosts_and_origins_are_those_that_browsers_send(site_url, origins, hosts):
    found = loaded(DATABASE_URL="postgresql://u:p@h/d", SITE_URL=site_url)
    assert found["CSRF_TRUSTED_ORIGINS"] == origins
    assert found["SITE_URL"] == origins[0]
    with override_settings(ALLOWED_HOSTS=found["ALLOWED_HOSTS"]):
        for origin, host in zip(origins, hosts, strict=True):
            assert host in found["ALLOWED_HOSTS"]
            sent = origin.partition("//")[2]
            assert RequestFactory(HTTP_HOST=sent).get("/").get_host() == sent


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"SITE_URL": "www.example.com"}, "SITE_URL has 'www.example.com'. Give http:// or https://"),
        ({"SITE_URL": "https://www.example.com/shop"}, "SITE_URL has 'https://www.example.com/shop'."),
        ({"SITE_URL": "https://a.example, b.example"}, "SITE_URL has 'b.example'."),
        ({"SITE_URL": "https://*.example.com"}, "SITE_URL has 'https://*.example.com'."),
        ({"SITE_URL": "http://[::g]"}, "SITE_URL has 'http://[::g]'."),
        ({"SITE_URL": ""}, "SITE_URL has ''."),
        ({"DATABASE_URL": ""}, "DATABASE_URL is empty. Give DATABASE_URL=postgresql://"),
        ({"DATABASE_URL": "postgresql://h/d"}, "DATABASE_URL names no role."),
        ({"DATABASE_AS_OWNER": "on", "DATABASE_OWNER_URL": "x"}, "DATABASE_OWNER_URL is no PostgreSQL URL."),
        ({"POOL_MODE": "both"}, "POOL_MODE is 'both'. Use one of"),
    ],
)
def test_what_cannot_be_is_one_line(wrong, says):
    done = run("manage.py", "check", **({"DATABASE_URL": "postgresql://u:p@h/d"} | wrong))
    assert done.returncode == 1
    assert done.stderr.startswith(says) and done.stderr.count("\n") == 1, done.stderr


def test_check_deploy_is_silent_behind_https():
    done = run(
        "manage.py", "check", "--deploy", "--fail-level=INFO",
        DATABASE_URL="postgresql://u:p@h/d", REPLICAS="1", SITE_URL="https://www.example.com", POOL_MODE="transaction",
        DEBUG="false", SYNCHRONOUS_COMMIT="local", WEB_WORKER="gthread", CONNECTION_STRATEGY="persistent",
        EMAIL_URL="smtp://mail.example.com",
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, "System check identified no issues (0 silenced).\n"), done.stderr


def test_health_is_exempt_from_the_redirect_to_https():
    found = loaded(DATABASE_URL="postgresql://u:p@h/d", SITE_URL="https://www.example.com")
    assert found["SECURE_SSL_REDIRECT"] is True
    assert found["SECURE_REDIRECT_EXEMPT"] == ["^livez$", "^readyz$"]


@pytest.mark.parametrize(
    ("edit", "identifier", "remedy"),
    [
        ({"POOL_MODE": "statement", "REPLICAS": "0"}, "ops.E001", "Set REPLICAS to 1 or more, or POOL_MODE"),
        ({"SYNCHRONOUS_COMMIT": "on", "REPLICAS": "0"}, "ops.E002", "or SYNCHRONOUS_COMMIT to local"),
        ({"WEB_WORKER": "gevent", "CONNECTION_STRATEGY": "persistent"}, "ops.E003", "or WEB_WORKER to gthread"),
        ({"WEB_WORKER": "asgi", "CONNECTION_STRATEGY": "persistent"}, "ops.E003", "pool or per-request"),
        ({"REPLICAS": "4"}, "ops.E004", "from 0 to 3"),
    ],
)
def test_an_edit_of_env_that_cannot_work_fails_the_check(edit, identifier, remedy):
    sound = {"REPLICAS": "1", "POOL_MODE": "transaction", "SYNCHRONOUS_COMMIT": "local", "WEB_WORKER": "gthread"}
    sound |= {"CONNECTION_STRATEGY": "persistent", "DATABASE_URL": "postgresql://u:p@h/d"}
    assert run("manage.py", "check", **sound).returncode == 0
    done = run("manage.py", "check", **(sound | edit))
    assert done.returncode != 0
    assert identifier in done.stderr
    assert remedy in done.stderr


def test_json_logs_are_one_object_a_line():
    code = (
        "import logging.config; from config.logs import logging_config;"
        "logging.config.dictConfig(logging_config('json', 'INFO'));"
        "logging.getLogger('x').warning('a \"quoted\"\\nline', extra={'lag_ms': 3})"
    )
    (line,) = run("-c", code).stderr.splitlines()
    found = json.loads(line)
    assert (found["message"], found["lag_ms"], found["levelname"]) == ('a "quoted"\nline', 3, "WARNING")


@pytest.mark.parametrize(("workers", "told"), [(1, ["ops.E013"] if django.VERSION < (6, 0) else []), (0, [])])
def test_a_worker_needs_a_django_that_has_tasks(settings, workers, told):
    settings.TASK_WORKERS = workers
    assert [problem.id for problem in django_has_tasks(None)] == told


@pytest.mark.parametrize(("options", "told"), [({"prepare_threshold": 5}, ["ops.E010"]), ({}, [])])
def test_prepared_statements_need_a_libpq_that_can_close_them(options, told):
    with (
        mock.patch.dict(settings.DATABASES["default"], {"OPTIONS": options}),
        mock.patch.object(psycopg.capabilities, "has_send_close_prepared", return_value=False),
    ):
        assert [error.id for error in libpq_fits(None)] == told
