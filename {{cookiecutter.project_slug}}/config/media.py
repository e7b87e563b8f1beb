"""Files that people upload: where they are kept, and the view that serves them where that is a directory."""

from collections.abc import AsyncIterator
from typing import IO, Any
from urllib.parse import urlsplit

from asgiref.sync import sync_to_async
from django.conf import settings
from django.core.exceptions import SuspiciousFileOperation
from django.http import FileResponse, Http404, HttpRequest
from django.http.response import HttpResponseBase
from django.views.static import serve

# An uploaded page or SVG runs no script, in which the visitor who opens it would be logged in here.
POLICY = "default-src 'none'; img-src 'self' data:; media-src 'self'; style-src 'unsafe-inline'; form-action 'none'"
CHUNK = 64 * 1024  # bytes


def media_storage(bucket: str, *, endpoint: str, region: str, access_key: str, secret_key: str) -> dict[str, Any]:
    """An entry of STORAGES: the directory MEDIA_ROOT, or a bucket if one is named.

    :param bucket: in which nobody but its owner needs to read: addresses are signed, and are valid for an hour
    :param endpoint: of a service that is not Amazon's, such as https://s3.example.org
    """
    if not bucket:
        return {"BACKEND": "django.core.files.storage.FileSystemStorage"}
    return {
        "BACKEND": "storages.backends.s3.S3Storage",
        "OPTIONS": {
            "bucket_name": bucket,
            "endpoint_url": endpoint or None,
            "region_name": region or None,
            "access_key": access_key or None,
            "secret_key": secret_key or None,
            # The older one, boto3's choice for some services, is refused by others.
            "signature_version": "s3v4",
            # As on a disk: an upload does not replace another one of its name.
            "file_overwrite": False,
        },
    }


def media_source(bucket: str, endpoint: str) -> list[str]:
    """For a content security policy: from where browsers load the bucket's files."""
    if not bucket:
        return []
    if not endpoint:
        return ["https://*.amazonaws.com"]
    address = urlsplit(endpoint)
    return [f"{address.scheme}://{address.netloc}", f"{address.scheme}://{bucket}.{address.netloc}"]


def serve_media(request: HttpRequest, path: str) -> HttpResponseBase:
    """What was uploaded, to everybody who knows its address, as by a web server. No parts of a file: use a bucket, or
    a web server in front, for films.

    :raises Http404: without such a file, and for a directory
    """
    try:
        response = serve(request, path, document_root=settings.MEDIA_ROOT)
    except SuspiciousFileOperation:  # it leads out of the directory
        raise Http404 from None
    response.headers["Content-Security-Policy"] = POLICY
    if isinstance(response, FileResponse) and response.file_to_stream and hasattr(request, "scope"):
        # Under asgi Django would read the whole file into memory first.
        response.streaming_content = chunks(response.file_to_stream)
    return response


async def chunks(file: IO[bytes]) -> AsyncIterator[bytes]:
    while chunk := await sync_to_async(file.read)(CHUNK):
        yield chunk
