import asyncio
import os
from pathlib import Path
from typing import Any

import django
import pytest
from django.core.files.base import ContentFile
from django.core.files.storage import default_storage
from django.test import AsyncClient, Client

from config.media import media_source, media_storage

BUCKET = {"endpoint": "https://s3.example.org", "region": "", "access_key": "a", "secret_key": "s"}


@pytest.fixture
def media(settings: Any, tmp_path: Path) -> Path:
    settings.MEDIA_ROOT = str(tmp_path / "media")
    return tmp_path / "media"


def test_an_upload_is_served_to_everybody_and_runs_no_script(media: Path) -> None:
    name = default_storage.save("pictures/a b.svg", ContentFile(b"<svg/>"))
    response = Client().get(default_storage.url(name))
    assert b"".join(response) == b"<svg/>"
    assert response["Content-Type"] == "image/svg+xml" and response["X-Content-Type-Options"] == "nosniff"
    assert "default-src 'none'" in response["Content-Security-Policy"]
    unchanged = {"if-modified-since": response["Last-Modified"]}
    assert Client().get(default_storage.url(name), headers=unchanged).status_code == 304


@pytest.mark.parametrize("path", ["", "pictures", "pictures/", "missing", "../out", "..%2Fout", "/etc/passwd"])
def test_nothing_else_is_served(media: Path, path: str) -> None:
    default_storage.save("pictures/a", ContentFile(b"a"))
    (media.parent / "out").write_text("not an upload")
    assert Client().get(f"/media/{path}").status_code == 404


@pytest.mark.filterwarnings("error")
def test_asgi_reads_a_file_in_parts(media: Path) -> None:
    content = os.urandom(200_000)
    default_storage.save("big", ContentFile(content))

    async def parts() -> list[bytes]:
        response = await AsyncClient().get("/media/big")
        return [part async for part in response.streaming_content]

    found = asyncio.run(parts())
    assert b"".join(found) == content and len(found) == 4


def test_a_bucket_is_used_if_one_is_named() -> None:
    assert media_storage("", **BUCKET) == {"BACKEND": "django.core.files.storage.FileSystemStorage"}
    entry = media_storage("mine", **BUCKET)
    assert (entry["OPTIONS"]["bucket_name"], entry["OPTIONS"]["endpoint_url"]) == ("mine", "https://s3.example.org")
    assert media_source("", "") == []
    assert media_source("mine", "") == ["https://*.amazonaws.com"]
    assert media_source("mine", "https://s3.example.org:9000/x") == [
        "https://s3.example.org:9000",
        "https://mine.s3.example.org:9000",
    ]


@pytest.mark.django_db
@pytest.mark.skipif(django.VERSION < (6, 0), reason="Django 5.2 has no middleware for it")
def test_pages_name_what_a_browser_may_load() -> None:
    policy = Client().get("/admin/login/")["Content-Security-Policy"]
    assert "default-src 'self'" in policy and "img-src 'self' data:" in policy and "unsafe" not in policy
