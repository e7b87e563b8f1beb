import os
from collections.abc import Callable, Iterable
from typing import Any

from django.conf import settings
from django.core.wsgi import get_wsgi_application

from config.proxies import visitor

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
django = get_wsgi_application()


def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """Django's, told who visits where a trusted proxy does."""
    forwarded_for = environ.get("HTTP_X_FORWARDED_FOR", "")
    environ["REMOTE_ADDR"] = visitor(environ.get("REMOTE_ADDR", ""), forwarded_for, settings.TRUSTED_PROXIES)
    return django(environ, start_response)
