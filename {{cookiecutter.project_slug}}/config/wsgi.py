import fcntl
import os
import struct
import termios
from collections.abc import Callable, Iterable
from contextlib import suppress
from socket import SO_SNDBUF, SOL_SOCKET, socket
from typing import Any

import django
from django.conf import settings
from django.core.handlers.wsgi import WSGIHandler
from django.db import connections
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase

from config.proxies import visitor
from config.threads import pool_of_this_thread
from dbrouting.giveback import has_body_to_run

# Bytes of an answer's headers, at most: Django's and those of a few cookies.
HEADERS = 8192


class Handler(WSGIHandler):
    def get_response(self, request: HttpRequest) -> HttpResponseBase:
        response = super().get_response(request)
        pool = pool_of_this_thread()
        if pool is not None and may_wait(response, request.META["gunicorn.socket"]):
            # A body that runs may need what is in a connection: a cursor, or a lock.
            pool.replace_this_thread(() if has_body_to_run(response) else connections.all(initialized_only=True))
        return response


def may_wait(response: HttpResponseBase, client: socket) -> bool:
    """Whether to send it may take as long as the visitor likes: unless the kernel takes all of it at once."""
    if not isinstance(response, HttpResponse):
        return True
    unread = 0
    with suppress(OSError):  # only Linux tells
        unread = struct.unpack("i", fcntl.ioctl(client, termios.TIOCOUTQ, bytes(4)))[0]
    # Half of its room is for the kernel's own records: socket(7), SO_SNDBUF.
    room = client.getsockopt(SOL_SOCKET, SO_SNDBUF) // 2 - unread
    return HEADERS + len(response.content) > room


os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
django.setup(set_prefix=False)
handler = Handler()


def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """Django's, told who visits where a trusted proxy does."""
    forwarded_for = environ.get("HTTP_X_FORWARDED_FOR", "")
    environ["REMOTE_ADDR"] = visitor(environ.get("REMOTE_ADDR", ""), forwarded_for, settings.TRUSTED_PROXIES)
    return handler(environ, start_response)
