"""Mail: from EMAIL_URL to Django's settings, and the errors of the site to its ADMINS."""

import logging
import time
import traceback
from typing import Any
from urllib.parse import urlsplit

import environ
from django.core.exceptions import ImproperlyConfigured
from django.core.mail import mail_admins
from django.utils.log import AdminEmailHandler

# Seconds. Without a limit each request that sends mail waits for a mail server that does not answer.
TIMEOUT = 10
PORTS = {"smtp": 25, "smtp+tls": 587, "smtp+ssl": 465}
# django-environ knows more, among them smtps, which others take for smtp+ssl, and it for smtp+tls.
SCHEMES = (*PORTS, "consolemail", "filemail", "dummymail")
# What Django before 6.1 calls the options.
BEFORE_MAILERS = {
    "host": "EMAIL_HOST",
    "port": "EMAIL_PORT",
    "username": "EMAIL_HOST_USER",
    "password": "EMAIL_HOST_PASSWORD",
    "use_tls": "EMAIL_USE_TLS",
    "use_ssl": "EMAIL_USE_SSL",
    "timeout": "EMAIL_TIMEOUT",
    "file_path": "EMAIL_FILE_PATH",
}


def mailer(url: str, password: str) -> dict[str, Any]:
    """An entry of MAILERS.

    :param url: smtp://, smtp+tls:// (STARTTLS) or smtp+ssl:// with USER@HOST:PORT, filemail:///DIRECTORY, consolemail://
        or dummymail://
    :param password: of that user, if the URL has none
    :raises ImproperlyConfigured: for anything else; the message does not repeat the URL, which may hold a password
    """
    remedy = "Give EMAIL_URL=smtp+tls://USER@HOST:587 in .env, with @ in USER as %40, or consolemail://."
    try:
        parts = urlsplit(url.strip())
        found: dict[str, Any] = environ.Env.email_url_config(url.strip()) if parts.scheme in SCHEMES else {}
    except ValueError:
        raise ImproperlyConfigured(f"EMAIL_URL cannot be read as a URL. {remedy}") from None
    if not found:
        raise ImproperlyConfigured(
            f"EMAIL_URL begins with {parts.scheme!r}, and must with one of {', '.join(SCHEMES)}. {remedy}"
        )
    options: dict[str, Any] = {}
    if parts.scheme in PORTS:
        if not found["EMAIL_HOST"]:
            raise ImproperlyConfigured(f"EMAIL_URL names no host. {remedy}")
        options = {
            "host": found["EMAIL_HOST"],
            "port": found["EMAIL_PORT"] or PORTS[parts.scheme],
            "username": found["EMAIL_HOST_USER"] or "",
            "password": found["EMAIL_HOST_PASSWORD"] or password,
            "use_tls": parts.scheme == "smtp+tls",
            "use_ssl": parts.scheme == "smtp+ssl",
            "timeout": TIMEOUT,
        }
    if parts.scheme == "filemail":
        options = {"file_path": parts.path}
    return {"BACKEND": found["EMAIL_BACKEND"], "OPTIONS": options}


def email_settings(entry: dict[str, Any]) -> dict[str, Any]:
    """The same for Django before 6.1, as names and values of settings."""
    return {"EMAIL_BACKEND": entry["BACKEND"]} | {BEFORE_MAILERS[name]: it for name, it in entry["OPTIONS"].items()}


class ErrorMail(AdminEmailHandler):
    """Mails an error to the ADMINS: of those that one line raises, one a minute from each process, since every request
    fails while a database is away. Where the mail server fails, logging says so, and the request goes on.
    """

    PAUSE = 60.0  # seconds

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._sent: dict[str, float] = {}

    def emit(self, record: logging.LogRecord) -> None:
        place, now = f"{record.pathname}:{record.lineno}", time.monotonic()
        if record.exc_info and record.exc_info[2]:
            place = f"{record.exc_info[0]} {traceback.extract_tb(record.exc_info[2])[-1]}"
        # Scanners cause these: a host that is not ours, a path that leads out of a directory.
        if record.name.startswith("django.security.") or now - self._sent.get(place, -self.PAUSE) < self.PAUSE:
            return
        self._sent[place] = now
        try:
            super().emit(record)
        except Exception:
            self.handleError(record)

    def send_mail(self, subject: Any, message: Any, *args: Any, **kwargs: Any) -> None:
        # Django 5.2 asks for silence when it fails.
        kwargs.pop("fail_silently", None)
        mail_admins(subject, message, *args, **kwargs)
