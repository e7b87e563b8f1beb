import pytest
from django.core.cache.backends.filebased import FileBasedCache
from django.core.exceptions import ImproperlyConfigured

from config.cache import SERVICE, cache


def test_memory_needs_nothing():
    assert cache("memory", "", "") == {"BACKEND": "django.core.cache.backends.locmem.LocMemCache"}


@pytest.mark.parametrize(
    ("backend", "url", "location", "password"),
    [
        ("valkey", "redis://me@elsewhere:6379/0", SERVICE, "p/w @:"),
        ("url", " redis://me@elsewhere:6379/0\n", "redis://me@elsewhere:6379/0", "p/w @:"),
        ("url", "rediss://me:in%20it@elsewhere/0", "rediss://me:in%20it@elsewhere/0", None),
        # A server without passwords refuses one.
        ("url", "redis://elsewhere:6379/0", "redis://elsewhere:6379/0", None),
    ],
)
def test_a_server_gets_the_password_that_its_url_lacks(backend: str, url: str, location: str, password: str | None):
    entry = cache(backend, url, "p/w @:")
    assert entry["LOCATION"] == location
    assert entry["OPTIONS"].get("PASSWORD") == password


def test_files_may_be_anywhere(tmp_path):
    entry = cache("url", (tmp_path / "a b%").as_uri().replace("file:", "filecache:", 1), "")
    files = FileBasedCache(entry["LOCATION"], {})
    files.set("key", "value")
    assert (tmp_path / "a b%").is_dir() and files.get("key") == "value"


@pytest.mark.parametrize(
    ("backend", "url", "message"),
    [
        ("redis", "", "CACHE_BACKEND is 'redis'. Use one of memory, valkey, url"),
        ("url", "", "CACHE_URL is empty"),
        ("url", "https://me:secret@elsewhere/", "CACHE_URL is no URL of a cache"),
        ("url", "redis://", "CACHE_URL is no URL of a cache"),
        ("url", "filecache://", "CACHE_URL is no URL of a cache"),
        ("url", "redis://me:secret@elsewhere:port/0", "CACHE_URL cannot be read as a URL"),
        ("url", "redis://[secret", "CACHE_URL cannot be read as a URL"),
    ],
)
def test_anything_else_is_refused_with_its_remedy_and_without_the_password(backend: str, url: str, message: str):
    with pytest.raises(ImproperlyConfigured) as refused:
        cache(backend, url, "")
    text = str(refused.value)
    assert text.startswith(message) and ".env" in text and "secret" not in text
