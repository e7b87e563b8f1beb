"""The cache: from CACHE_BACKEND and CACHE_URL to an entry of Django's CACHES."""

from typing import Any
from urllib.parse import unquote, urlsplit

from django.core.exceptions import ImproperlyConfigured

# The service of compose.yaml, whose user is its own name.
SERVICE = "redis://cache@cache:6379/0"
# Seconds that one operation waits for a server that does not answer.
TIMEOUT = 0.5


def cache(backend: str, url: str, password: str) -> dict[str, Any]:
    """An entry of CACHES.

    :param backend: memory (each process has its own), valkey (the service of compose.yaml), or url
    :param url: for `url`: redis://USER@HOST:6379/0, rediss:// (TLS), or filecache:///DIRECTORY
    :param password: of that user, if the URL has none
    :raises ImproperlyConfigured: for anything else; the message does not repeat the URL, which may hold a password
    """
    if backend == "memory":
        return {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}
    if backend not in ("valkey", "url"):
        raise ImproperlyConfigured(f"CACHE_BACKEND is {backend!r}. Use one of memory, valkey, url in .env.")
    location = SERVICE if backend == "valkey" else url.strip()
    remedy = "Give CACHE_URL=redis://USER@HOST:6379/0 in .env, rediss:// for TLS, or set CACHE_BACKEND=memory."
    try:
        parts = urlsplit(location)
        host, given, _ = parts.hostname, parts.password, parts.port
    except ValueError:
        raise ImproperlyConfigured(f"CACHE_URL cannot be read as a URL. {remedy}") from None
    if parts.scheme == "filecache" and parts.path:
        return {"BACKEND": "django.core.cache.backends.filebased.FileBasedCache", "LOCATION": unquote(parts.path)}
    if parts.scheme not in ("redis", "rediss") or not host:
        raise ImproperlyConfigured(f"CACHE_URL is {'no URL of a cache' if location else 'empty'}. {remedy}")
    return {
        "BACKEND": "django_redis.cache.RedisCache",
        "LOCATION": location,
        "OPTIONS": {
            "SOCKET_CONNECT_TIMEOUT": TIMEOUT,
            "SOCKET_TIMEOUT": TIMEOUT,
            # Without a cache the site is slower, and it works.
            "IGNORE_EXCEPTIONS": True,
            **({"PASSWORD": password} if parts.username and not given else {}),
        },
    }
