"""What a project sends to others: mail, uploads, errors. They are real here: an SMTP server, S3's protocol, HTTP."""

import gzip
import json
import os
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import requests
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult, Envelope, Session

from tests.baking import free_port
from tests.devstack.devstack import devstack
from tests.waiting import eventually


@pytest.fixture(scope="module")
def project(make_project: Callable[..., Path]) -> Path:
    return make_project("services", replicas="0")


def python(project: Path, code: str, **environment: str) -> str:
    """What the code prints, run with the project's settings."""
    done = subprocess.run(
        [".venv/bin/python", "-c", f"import django; django.setup(); {code}"],
        cwd=project,
        env=os.environ | {"DJANGO_SETTINGS_MODULE": "config.settings"} | environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


class MailServer:
    """Takes mail from one user, after STARTTLS."""

    def __init__(self) -> None:
        self.received: list[str] = []

    async def handle_DATA(self, server: Any, session: Session, envelope: Envelope) -> str:
        assert session.authenticated
        self.received += envelope.rcpt_tos
        return "250 OK"

    def authenticate(self, server: Any, session: Any, envelope: Any, mechanism: str, data: Any) -> AuthResult:
        return AuthResult(success=(data.login, data.password) == (b"me@example.org", b"p/w @:"))


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    command = (
        "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost -addext subjectAltName=DNS:localhost"
    )
    both = tmp_path / "certificate.pem"
    subprocess.run([*command.split(), "-keyout", both, "-out", both], check=True, capture_output=True)
    return both


def test_mail_goes_to_a_server_with_the_password_of_its_file(project: Path, certificate: Path) -> None:

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    mails = MailServer()
    controller = Controller(
        mails, hostname="localhost", port=free_port(), tls_context=context, require_starttls=True,
        auth_required=True, authenticator=mails.authenticate,
    )  # fmt: skip
    controller.start()
    try:
        (project / "secrets" / "email_password").write_text("p/w @:\n")
        url = f"smtp+tls://me%40example.org@localhost:{controller.port}"
        send = "from django.core.mail import mail_admins; mail_admins('s', 'b')"
        environment = {"EMAIL_URL": url, "ADMINS": "ann@example.org,bob@example.org"}
        python(project, send, SSL_CERT_FILE=str(certificate), **environment)
    finally:
        controller.stop()
    assert mails.received == ["ann@example.org", "bob@example.org"]


@pytest.fixture
def bucket(tmp_path: Path) -> Iterator[dict[str, str]]:
    """The environment that names it."""
    port = free_port()
    (tmp_path / "mine").mkdir()
    command = [
        Path(sys.executable).parent / "rclone",
        "serve",
        "s3",
        "--addr",
        f"127.0.0.1:{port}",
        "--auth-key",
        "AKIDACCESS,SECRETKEY1234",
        str(tmp_path),
    ]
    with subprocess.Popen(command, env=os.environ | {"RCLONE_CONFIG": str(tmp_path / "none")}) as server:
        endpoint = f"http://127.0.0.1:{port}"

        def answers() -> bool:
            try:
                return requests.get(endpoint).status_code >= 400
            except requests.ConnectionError:
                return False

        try:
            eventually(answers)
            yield {
                "S3_BUCKET": "mine",
                "S3_ENDPOINT": endpoint,
                "S3_REGION": "us-east-1",
                "S3_ACCESS_KEY": "AKIDACCESS",
            }
        finally:
            server.terminate()


def test_uploads_go_to_a_bucket_and_are_read_by_signed_addresses(project: Path, bucket: dict[str, str]) -> None:
    (project / "secrets" / "s3_secret_key").write_text("SECRETKEY1234\n")
    save = (
        "from django.core.files.base import ContentFile as File; from django.core.files.storage import default_storage"
    )
    save += " as files; [print(name, files.url(name)) for name in [files.save('a.txt', File(b'%s'))]]"
    (name, address), (second, another) = (python(project, save % content, **bucket).split() for content in ("1", "2"))
    assert name == "a.txt" and second != name
    assert [requests.get(url).text for url in (address, another)] == ["1", "2"]
    assert requests.get(address.partition("?")[0]).status_code >= 400


def test_all_processes_have_one_cache(project: Path) -> None:
    from_cache = "from django.core.cache import cache; print(cache.get('key'))"
    with devstack(project, CACHE_BACKEND="valkey"):
        python(project, "from django.core.cache import cache; cache.set('key', 'kept')")
        assert python(project, from_cache) == "kept\n"
    # Without the stack there are no files, and no server here either.
    assert python(project, from_cache, CACHE_BACKEND="valkey") == "None\n"


def test_errors_go_to_sentry(project: Path) -> None:
    events: list[str] = []

    class Sentry(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.headers.get("Content-Encoding") == "gzip":
                body = gzip.decompress(body)
            for line in body.decode().splitlines():
                events.extend(error["type"] for error in json.loads(line).get("exception", {}).get("values", ()))
            self.send_response(200)
            self.end_headers()

    with ThreadingHTTPServer(("127.0.0.1", 0), Sentry) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        dsn = f"http://key@127.0.0.1:{server.server_port}/1"
        fails = (
            "from django.test import Client; from config import urls; visitor = Client(raise_request_exception=False);"
        )
        fails += "urls.urlpatterns.append(django.urls.path('fails', lambda request: 1 / 0));"
        # The first is what scanners do all day.
        fails += "[visitor.get('/fails', headers={'host': host}) for host in ('not.ours', 'localhost')];"
        # At its end Python waits for two seconds only.
        fails += "import sentry_sdk; sentry_sdk.flush(60)"
        try:
            python(project, f"import django.urls; {fails}", SENTRY_DSN=dsn, NO_PROXY="127.0.0.1")
            eventually(lambda: events)
        finally:
            server.shutdown()
    assert events == ["ZeroDivisionError"]
