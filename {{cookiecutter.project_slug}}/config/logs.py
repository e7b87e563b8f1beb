"""One logging configuration for Django and gunicorn alike: to standard error, as lines for people or as JSON."""

from typing import Any


def logging_config(log_format: str, level: str) -> dict[str, Any]:
    """:param log_format: plain or json.

    :raises ValueError: for another format.
    """
    if log_format not in ("plain", "json"):
        raise ValueError(f"LOG_FORMAT is {log_format!r}. Use plain or json in .env.")
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {
            "plain": {"format": "%(asctime)s %(levelname)s %(name)s %(message)s"},
            "json": {
                "()": "pythonjsonlogger.json.JsonFormatter",
                "format": "%(asctime)s %(levelname)s %(name)s %(process)d %(message)s",
            },
        },
        "handlers": {"console": {"class": "logging.StreamHandler", "formatter": log_format}},
        "root": {"handlers": ["console"], "level": level},
        "loggers": {
            # gunicorn hangs handlers of its own on these unless they have some; Django has hung its own already.
            **{
                name: {"handlers": ["console"], "level": level, "propagate": False}
                for name in ("gunicorn.error", "gunicorn.access")
            },
            **{name: {"handlers": [], "propagate": True} for name in ("django", "django.server")},
        },
    }
