"""One logging configuration for Django and gunicorn alike: to standard error, as lines for people or as JSON.

What the console shows is shorter than what is logged: for a database that is away one line, and of what PostgreSQL says
no values of rows. The records stay whole, for the handlers of an error reporter and the mail to ADMINS.
"""

import copy
import logging
import re
import time
import traceback
from collections.abc import Iterator
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from pythonjsonlogger.json import JsonFormatter

# SQLSTATEs, or how they begin: PostgreSQL or PgBouncer is not there (08), or is stopping or starting (57P).
AWAY = ("08", "57P")

# Of each pool of psycopg's, by its name: the monotonic time of the last attempt to connect that failed, and why it did.
_failures: dict[str, tuple[float, str]] = {}
# Seconds without one, after which the next is another outage.
ANOTHER_OUTAGE = 60.0


class PoolFilter(logging.Filter):
    """A pool tells of each attempt to connect that fails, several in a second. The first one of an outage is shown."""

    def filter(self, record: logging.LogRecord) -> bool:
        if not str(record.msg).startswith("error connecting in") or not isinstance(record.args, tuple):
            return True
        pool, now = str(record.args[0]), time.monotonic()
        before, _ = _failures.get(pool, (float("-inf"), ""))
        _failures[pool] = now, _first_line(record.args[1])
        return now - before > ANOTHER_OUTAGE

    # gunicorn configures logging, and then Django does: a logger does not take the same filter twice.
    def __eq__(self, other: object) -> bool:
        return isinstance(other, PoolFilter)

    def __hash__(self) -> int:
        return hash(PoolFilter)


class ConsoleFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return super().format(for_the_console(record))


class ConsoleJsonFormatter(JsonFormatter):
    def format(self, record: logging.LogRecord) -> str:
        return super().format(for_the_console(record))


def for_the_console(record: logging.LogRecord) -> logging.LogRecord:
    """The record, or a copy of it, since other handlers get the same."""
    error = record.exc_info[1] if record.exc_info else None
    errors = list(_with_related(error, *(record.args if isinstance(record.args, tuple) else ())))
    if not errors:
        return record
    shown = copy.copy(record)
    shown.msg, shown.args = _without_values(record.getMessage(), errors), None
    shown.exc_info = shown.exc_text = None
    if away := _away(error):
        shown.msg = f"{shown.msg}: {away}"
    elif error is not None:
        shown.exc_text = _without_values("".join(traceback.format_exception(error)).rstrip("\n"), errors)
    return shown


def _with_related(*candidates: object) -> Iterator[BaseException]:
    """The exceptions among them, and those that their tracebacks show too."""
    found: list[object] = list(candidates)
    seen: set[int] = set()
    while found:
        error = found.pop()
        if isinstance(error, BaseException) and id(error) not in seen:
            seen.add(id(error))
            yield error
            found += [error.__cause__, error.__context__, *getattr(error, "exceptions", ())]


def _without_values(text: str, errors: list[BaseException]) -> str:
    """Of PostgreSQL's errors the first sentence remains, which names the constraint. DETAIL, CONTEXT and the line of
    SQL hold what users have entered: a whole row, with the hash of a password for one.
    """
    for error in errors:
        first = getattr(getattr(error, "diag", None), "message_primary", None)
        # libpq's own errors have none.
        if first is None:
            continue
        whole = str(error)
        # The traceback of an exception group indents each line.
        lines = "[ |]*".join(map(re.escape, whole.splitlines(keepends=True)))
        text = re.sub(lines, first.replace("\\", r"\\"), text)
        text = text.replace(repr(whole)[1:-1], repr(first)[1:-1])
    return text


def _away(error: BaseException | None) -> str:
    """If it says that a database cannot be reached: which, and why, in one line."""
    # Not above: gunicorn reads this file before gevent has patched what Django would import.
    from django.db.utils import DatabaseErrorWrapper, OperationalError

    if not isinstance(error, OperationalError):
        return ""
    # None, where libpq cannot make a connection or loses it, and where a pool has none to give.
    sqlstate = getattr(error.__cause__, "sqlstate", "not the driver's")
    if sqlstate is not None and not sqlstate.startswith(AWAY):
        return ""
    # Django's exception does not tell. The code object decides: to ask a lazy object for its class would evaluate it.
    wrappers = [
        frame.f_locals["self"].wrapper
        for frame, _ in traceback.walk_tb(error.__traceback__)
        if frame.f_code is DatabaseErrorWrapper.__exit__.__code__
    ]
    alias = f" to the database {wrappers[-1].alias!r}" if wrappers else ""
    why = _first_line(error)
    if why.startswith("couldn't get a connection"):
        # The pool's words for that it has waited.
        pool = getattr(wrappers[-1], "pool", None) if wrappers else None
        when, failure = _failures.get(getattr(pool, "name", ""), (float("-inf"), ""))
        if time.monotonic() - when < ANOTHER_OUTAGE:
            why += f" ({failure})"
    return f"no connection{alias}: {why}"


def _first_line(error: object) -> str:
    return (str(error).splitlines() or [""])[0]


def logging_config(log_format: str, level: str, *, mails: bool = False) -> dict[str, Any]:
    """:param log_format: plain or json.
    :param mails: whether errors go to the ADMINS too. Not for gunicorn itself, which has no settings of Django.

    :raises ImproperlyConfigured: for another format or level.
    """
    if log_format not in ("plain", "json"):
        raise ImproperlyConfigured(f"LOG_FORMAT is {log_format!r}. Use plain or json in .env.")
    levels = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
    if level not in levels:
        raise ImproperlyConfigured(f"LOG_LEVEL is {level!r}. Use one of {', '.join(levels)} in .env.")
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {
            "plain": {
                "class": "config.logs.ConsoleFormatter",
                "format": "%(asctime)s %(levelname)s %(name)s %(message)s",
            },
            "json": {
                "()": "config.logs.ConsoleJsonFormatter",
                "format": "%(asctime)s %(levelname)s %(name)s %(process)d %(message)s",
            },
        },
        "filters": {"pool": {"()": "config.logs.PoolFilter"}},
        "handlers": {
            "console": {"class": "logging.StreamHandler", "formatter": log_format},
            **({"mail": {"class": "config.mail.ErrorMail", "level": "ERROR"}} if mails else {}),
        },
        "root": {"handlers": ["console", "mail"] if mails else ["console"], "level": level},
        "loggers": {
            # gunicorn hangs handlers of its own on these unless they have some; Django has hung its own already.
            **{
                name: {"handlers": ["console"], "level": level, "propagate": False}
                for name in ("gunicorn.error", "gunicorn.access")
            },
            **{name: {"handlers": [], "propagate": True} for name in ("django", "django.server")},
            "psycopg.pool": {"filters": ["pool"]},
        },
    }
