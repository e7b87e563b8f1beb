import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import django
import pytest
from django.conf import global_settings, settings
from django.core import mail
from django.core.exceptions import ImproperlyConfigured
from django.http import HttpRequest
from django.test import Client
from django.urls import path

from config.mail import ErrorMail, email_settings, mailer

BACKEND = "django.core.mail.backends.{}.EmailBackend"
SMTP = {"username": "", "password": "", "use_tls": False, "use_ssl": False, "timeout": 10}
KNOWN = {
    "smtp://mail": SMTP | {"host": "mail", "port": 25},
    "smtp+tls://me%40example.org@mail:2525": SMTP
    | {"host": "mail", "port": 2525, "username": "me@example.org", "password": "from the file", "use_tls": True},
    "smtp+ssl://me:p%2Fw@mail": SMTP
    | {"host": "mail", "port": 465, "username": "me", "password": "p/w", "use_ssl": True},
}
UNKNOWN = {
    "": "begins with ''",
    "smtps://me:secret@mail": "begins with 'smtps'",
    "mail.example.org:25": "begins with 'mail.example.org'",
    "smtp://": "names no host",
    "smtp+tls://me:secret@mail:port": "cannot be read",
}


@pytest.mark.parametrize("url", KNOWN)
def test_a_url_becomes_a_mailer(url: str) -> None:
    password = "from the file" if "me" in url else ""
    assert mailer(url, password) == {"BACKEND": BACKEND.format("smtp"), "OPTIONS": KNOWN[url]}


def test_files_are_in_the_directory_that_the_url_names() -> None:
    assert mailer("filemail:///tmp/mail", "")["OPTIONS"] == {"file_path": "/tmp/mail"}


@pytest.mark.parametrize("url", UNKNOWN)
def test_a_url_that_is_none_is_refused_without_its_password(url: str) -> None:
    with pytest.raises(ImproperlyConfigured, match=UNKNOWN[url]) as refused:
        mailer(url, "")
    assert "Give EMAIL_URL=smtp" in str(refused.value) and "secret" not in str(refused.value)


@pytest.mark.parametrize("url", ["consolemail://", "filemail:///tmp/mail", *KNOWN])
def test_django_before_6_1_has_the_same_as_settings(url: str) -> None:
    """Each name is one that Django has."""
    found = email_settings(mailer(url, ""))
    assert [name for name in found if name != "EMAIL_FILE_PATH" and not hasattr(global_settings, name)] == []


def test_no_setting_of_mail_is_deprecated() -> None:
    code = "import django; django.setup(); from django.core.mail import send_mail; send_mail('s', 'b', None, ['a@b.c'])"
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "From: noreply@localhost" in done.stdout


def fails(request: HttpRequest) -> None:
    raise ValueError(request.path)


urlpatterns = [path("one", fails), path("two", fails)]


@contextmanager
def errors_are_mailed() -> Iterator[ErrorMail]:
    handler = ErrorMail()
    handler.setLevel(logging.ERROR)
    logging.getLogger().addHandler(handler)
    try:
        yield handler
    finally:
        logging.getLogger().removeHandler(handler)


@pytest.fixture
def admins(settings: Any) -> None:
    settings.ADMINS = ["ann@example.org"] if django.VERSION >= (6, 0) else [("", "ann@example.org")]
    settings.ROOT_URLCONF = __name__


@pytest.mark.django_db
def test_an_error_is_mailed_once_a_minute(admins: None, mailoutbox: list[mail.EmailMessage]) -> None:
    visitor = Client(raise_request_exception=False)
    with errors_are_mailed() as handler:
        assert [visitor.get(f"/{page}").status_code for page in ("one", "two", "one")] == [500, 500, 500]
        assert [(message.to, "ValueError" in message.body) for message in mailoutbox] == [(["ann@example.org"], True)]
        logging.getLogger("elsewhere").error("another error")
        assert len(mailoutbox) == 2 and "another error" in mailoutbox[1].subject
        visitor.get("/one", headers={"host": "not.ours"})
        assert len(mailoutbox) == 2
        handler.PAUSE = 0
        visitor.get("/one")
        assert len(mailoutbox) == 3


@pytest.mark.django_db
def test_a_mail_server_that_is_away_harms_no_answer(
    admins: None, settings: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    # Nobody listens there.
    away = mailer("smtp://127.0.0.1:9", "")
    if django.VERSION >= (6, 1):
        settings.MAILERS = {"default": away}
    else:
        for name, value in email_settings(away).items():
            setattr(settings, name, value)
    with errors_are_mailed():
        assert Client(raise_request_exception=False).get("/one").status_code == 500
    assert "Connection refused" in capsys.readouterr().err


def test_the_admins_of_env_are_told() -> None:
    code = "import django; django.setup(); import logging; print([type(h).__name__ for h in logging.root.handlers])"
    env = {**os.environ, "ADMINS": "ann@example.org, bob@example.org"}
    done = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True)
    assert "ErrorMail" in done.stdout


def test_the_log_has_no_mail_without_admins() -> None:
    assert settings.ADMINS == []
    assert "mail" not in settings.LOGGING["handlers"]
