"""What an operator reads."""

import http.client
import json
import logging
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from django.conf import settings
from django.contrib.auth import get_user_model
from django.core.exceptions import ImproperlyConfigured
from django.db import DatabaseError, IntegrityError, OperationalError, connection, transaction
from django.utils.module_loading import import_string

from config.logs import ConsoleFormatter, ConsoleJsonFormatter, logging_config
from config.proxies import gateways, trusted_proxies, visitor
from config.tests.logged_site import elsewhere
from dbrouting.monitor import State

WHOLE = logging.Formatter()
SECRET = "anna@example.com"


def record(error: BaseException | None, message: str = "Internal Server Error: /page/", *args) -> logging.LogRecord:
    exc_info = error and (type(error), error, error.__traceback__)
    return logging.LogRecord("django.request", logging.ERROR, "", 0, message, args, exc_info)


def raised(by: Callable[[], object], kind: type[BaseException] = DatabaseError) -> BaseException:
    with pytest.raises(kind) as caught:
        by()
    return caught.value


def execute(sql: str, *parameters: str) -> None:
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute(sql, parameters)


def its_connection_is_ended() -> None:
    with transaction.atomic(), connection.cursor() as cursor:
        # After the first statement the transaction is not sent again.
        cursor.execute("SELECT 1")
        cursor.execute("SELECT pg_terminate_backend(pg_backend_pid())")


def cannot_connect() -> None:
    elsewhere().ensure_connection()


@pytest.mark.parametrize(
    ("by", "cause"),
    [
        (cannot_connect, r"'elsewhere': connection failed: .*port 1 failed: Connection refused"),
        (its_connection_is_ended, "'default': terminating connection due to administrator command"),
    ],
)
@pytest.mark.django_db(transaction=True)
def test_a_database_that_is_away_is_one_line(by, cause):
    logged = record(raised(by, OperationalError))
    whole = WHOLE.format(logged)
    assert whole.count("\n") > 20
    line = rf"Internal Server Error: /page/: no connection to the database {cause}"
    assert re.fullmatch(line, ConsoleFormatter().format(logged))
    told = json.loads(ConsoleJsonFormatter().format(logged))
    assert re.fullmatch(line, told["message"])
    assert "exc_info" not in told
    # An error reporter's handler gets the same record.
    assert WHOLE.format(logged) == whole


@pytest.mark.django_db(transaction=True)
def test_a_pool_that_cannot_connect_tells_it_once_and_is_the_cause(caplog, eventually):
    wrapper = elsewhere(pool={"min_size": 1, "timeout": 1})
    try:
        line = ConsoleFormatter().format(record(raised(wrapper.ensure_connection, OperationalError)))
        cause = r"couldn't get a connection after 1.00 sec \(connection failed: .* port 1 failed: Connection refused\)"
        assert re.fullmatch(rf"Internal Server Error: /page/: no connection to the database 'elsewhere': {cause}", line)
        eventually(lambda: wrapper.pool.get_stats().get("connections_errors", 0) > 1)
        assert len([told for told in caplog.messages if told.startswith("error connecting in")]) == 1
    finally:
        wrapper.close_pool()


def test_a_logger_that_is_configured_twice_filters_once():
    """gunicorn configures it, then Django. A second filter would hold back what the first lets through."""
    logger = logging.Logger("of a pool")
    for _ in range(2):
        for name in logging_config("plain", "INFO")["filters"].values():
            logger.addFilter(import_string(name["()"])())
    warning = logger.makeRecord("", logging.WARNING, "", 0, "error connecting in %r: %s", ("pool-x", "refused"), None)
    assert logger.filter(warning)
    assert not logger.filter(warning)


def waits_too_long() -> None:
    execute("SET LOCAL statement_timeout = '1ms'; SELECT pg_sleep(60)")


def gives_too_few_parameters() -> None:
    """The driver's error: it has no SQLSTATE."""
    execute("SELECT %s, %s", "one")


def divides_by_zero() -> None:
    print(1 / 0)


@pytest.mark.parametrize("by", [waits_too_long, gives_too_few_parameters, divides_by_zero])
@pytest.mark.django_db(transaction=True)
def test_every_other_error_keeps_its_traceback(by):
    logged = record(raised(by, Exception))
    assert f"in {by.__name__}" in ConsoleFormatter().format(logged)
    assert ConsoleFormatter().format(logged) == WHOLE.format(logged)
    assert f"in {by.__name__}" in json.loads(ConsoleJsonFormatter().format(logged))["exc_info"]


def a_row_that_fails() -> None:
    table = "CREATE TEMPORARY TABLE visitor (email text, age int NOT NULL) ON COMMIT DROP"
    execute(f"{table}; INSERT INTO visitor VALUES (%s)", SECRET)


def a_key_that_exists() -> None:
    User = get_user_model()
    for _ in range(2):
        User.objects.create_user(username=SECRET, password="x")


def a_line_of_sql() -> None:
    execute("SELECT %s, nothing", SECRET)


def an_error_of_its_own() -> None:
    try:
        a_key_that_exists()
    except IntegrityError as error:
        raise ValueError(f"not saved: {error}") from error


def a_group() -> None:
    error = raised(a_row_that_fails, IntegrityError)
    # Not in an except block: it has no other tie to the error.
    raise BaseExceptionGroup("of tasks", [error])


@pytest.mark.parametrize(
    ("by", "remains"),
    [
        (a_row_that_fails, 'null value in column "age" of relation "visitor" violates not-null constraint'),
        (a_key_that_exists, "duplicate key value violates unique constraint"),
        (a_line_of_sql, 'column "nothing" does not exist'),
        (an_error_of_its_own, "ValueError: not saved: duplicate key value violates unique constraint"),
        (a_group, 'null value in column "age" of relation "visitor" violates not-null constraint'),
    ],
)
@pytest.mark.parametrize("formatter", [ConsoleFormatter(), ConsoleJsonFormatter()])
@pytest.mark.django_db(transaction=True)
def test_what_users_have_entered_is_not_in_the_log(by, remains, formatter):
    error = raised(by, BaseException)
    for logged in (record(error), record(None, "not saved: %s", error), record(None, "not saved: %r", error)):
        whole = WHOLE.format(logged)
        shown = formatter.format(logged)
        # A group's own text names no error of it.
        assert SECRET in whole or (by is a_group and not logged.exc_info)
        assert SECRET not in shown and "DETAIL" not in shown and "LINE 1" not in shown
    assert remains in formatter.format(record(error)).replace('\\"', '"')
    assert f"in {by.__name__}" in formatter.format(record(error))


@pytest.mark.parametrize(
    ("log_format", "level", "told"),
    [
        ("xml", "INFO", "LOG_FORMAT is 'xml'. Use plain or json"),
        ("plain", "LOUD", "LOG_LEVEL is 'LOUD'. Use one of DEBUG"),
    ],
)
def test_a_choice_that_logging_does_not_know_is_refused(log_format, level, told):
    with pytest.raises(ImproperlyConfigured, match=told):
        logging_config(log_format, level)


@pytest.mark.parametrize(
    ("peer", "forwarded_for", "address"),
    [
        # A stranger's header is ignored.
        ("198.51.100.4", "203.0.113.9", "198.51.100.4"),
        ("127.0.0.1", "203.0.113.9", "203.0.113.9"),
        ("::1", "2001:db8::9", "2001:db8::9"),
        # What the visitor has sent is on the left.
        ("127.0.0.1", "192.0.2.66, 203.0.113.9", "203.0.113.9"),
        ("127.0.0.1", "192.0.2.66,203.0.113.9, 10.1.2.3", "203.0.113.9"),
        # All are proxies of ours: it comes from the first.
        ("10.1.2.3", "10.1.2.4", "10.1.2.4"),
        ("127.0.0.1", "", "127.0.0.1"),
        ("127.0.0.1", '" 200 forged', "127.0.0.1"),
        ("127.0.0.1", "203.0.113.9, unknown, 10.1.2.3", "10.1.2.3"),
        # A Unix socket.
        ("", "203.0.113.9", "203.0.113.9"),
        ("-", "203.0.113.9", "203.0.113.9"),
        ("", "", ""),
    ],
)
def test_the_visitor_is_the_last_that_is_no_trusted_proxy(peer, forwarded_for, address):
    assert visitor(peer, forwarded_for, trusted_proxies("10.0.0.0/8, 192.0.2.7")) == address


@pytest.mark.parametrize("text", ["proxy.example.com", "*", "10.0.0.1/8", "10.0.0.0/8 192.0.2.7"])
def test_a_proxy_that_is_no_address_is_refused(text):
    with pytest.raises(ImproperlyConfigured, match=re.escape(f"TRUSTED_PROXIES is {text!r}: ")):
        trusted_proxies(text)


def test_the_gateway_of_a_container():
    head = "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n"
    rest = "0003\t0\t0\t0\t00000000\t0\t0\t0\n"
    routes = f"{head}eth0\t00000000\t010012AC\t{rest}eth0\t000012AC\t00000000\t{rest}"
    assert list(map(str, gateways(routes))) == ["172.18.0.1/32"]
    assert gateways(head) == []


def test_the_host_of_a_container_is_trusted_and_no_other_gateway():
    routes = Path("/proc/net/route")
    if not routes.exists() or not (gateway := gateways(routes.read_text())):
        pytest.skip("this machine has no gateway")
    assert (gateway[0] in trusted_proxies("")) is Path("/.dockerenv").exists()


class Site:
    """gunicorn with config/gunicorn.conf.py, as the container runs it."""

    def __init__(self, log: Path, worker: str, address: str) -> None:
        self.log, self.address = log, address
        environment = {
            "DJANGO_SETTINGS_MODULE": "config.tests.logged_site",
            "WEB_WORKER": worker,
            "WEB_BIND": f"{address}:0",
            "SITE_URL": "https://localhost",
            "TRUSTED_PROXIES": "10.0.0.0/8",
            "LOG_FORMAT": "plain",
            "LOG_LEVEL": "INFO",
            "WEB_WORKERS": "1",
        }
        command = [sys.executable, "-m", "gunicorn", "--config", "config/gunicorn.conf.py"]
        with log.open("wb") as output:
            self.process = subprocess.Popen(
                command, cwd=settings.BASE_DIR, env=os.environ | environment, stdout=output, stderr=output
            )

    def lines(self) -> list[str]:
        return self.log.read_text().splitlines()

    def wait_for(self, pattern: str) -> re.Match[str]:
        deadline = time.monotonic() + 60
        while not (found := re.search(pattern, self.log.read_text())):
            assert self.process.poll() is None and time.monotonic() < deadline, self.log.read_text()
            time.sleep(0.05)
        return found

    def get(self, path: str, headers: dict[str, str] | None = None) -> tuple[int, bytes]:
        port = int(self.wait_for(r"Listening at: http://[\d.]+:(\d+)")[1])
        connection = http.client.HTTPConnection(self.address, port, timeout=60)
        connection.request("GET", path, headers={"Host": "localhost", **(headers or {})})
        answer = connection.getresponse()
        return answer.status, answer.read()

    def stop(self) -> None:
        self.process.send_signal(signal.SIGINT)
        self.process.wait(60)


def own_address() -> str:
    """One of this machine's by which others reach it."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            # Sends nothing.
            probe.connect(("192.0.2.1", 9))
        except OSError:
            pytest.skip("this machine has no network")
        return str(probe.getsockname()[0])


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Site]]:
    started = []

    def start_site(worker: str, address: str = "127.0.0.1") -> Site:
        started.append(Site(tmp_path / "log", worker, address))
        return started[-1]

    yield start_site
    for site in started:
        site.stop()


WORKERS = pytest.mark.parametrize("worker", ["gthread", "gevent", "asgi"])


@WORKERS
def test_the_log_of_the_site(start, worker):
    site = start(worker)
    assert site.get("/livez")[0] == site.get("/readyz")[0] == 200
    # A server answers before it logs, and another thread may take the next request: each waits for its line.
    assert site.get("/readyz?status=503")[0] == 503
    site.wait_for(r"GET /readyz\?.*\n")
    visits = {"X-Forwarded-For": "192.0.2.66, 203.0.113.9, 10.1.2.3", "X-Forwarded-Proto": "https"}
    assert json.loads(site.get("/who", visits)[1]) == ["203.0.113.9", "https", "/who"]
    site.wait_for(r"203\.0\.113\.9 .*GET /who .*\n")
    # What the proxy passes on from a visitor, and does not set.
    sent = {"SCRIPT_NAME": "/elsewhere", "X-Forwarded-Ssl": "on"}
    assert json.loads(site.get("/who", sent)[1]) == ["127.0.0.1", "http", "/who"]
    site.wait_for(r"127\.0\.0\.1 .*GET /who .*\n")
    assert site.get("/away", visits)[0] == 500
    site.wait_for(r"GET /away .*\n")
    found = [line.split(" ", 2)[2] for line in site.lines()]
    served = [line for line in found if not line.startswith(("INFO gunicorn.error", "INFO dbrouting"))]
    expected = [
        "ERROR django.request Service Unavailable: /readyz",
        r'INFO gunicorn.access 127\.0\.0\.1 .*"GET /readyz\?status=503 HTTP/1.1" 503 .*',
        r'INFO gunicorn.access 203\.0\.113\.9 .*"GET /who HTTP/1.1" 200 .*',
        r'INFO gunicorn.access 127\.0\.0\.1 .*"GET /who HTTP/1.1" 200 .*',
        r"ERROR django.request Internal Server Error: /away: no connection to the database 'elsewhere': .* refused",
        r'INFO gunicorn.access 203\.0\.113\.9 .*"GET /away HTTP/1.1" 500 .*',
    ]
    assert len(served) == len(expected), served
    for line, pattern in zip(served, expected, strict=True):
        assert re.fullmatch(pattern, line)


@WORKERS
def test_a_stranger_is_not_believed(start, worker):
    address = own_address()
    site = start(worker, address)
    visits = {"X-Forwarded-For": "203.0.113.9", "X-Forwarded-Proto": "https"}
    assert json.loads(site.get("/who", visits)[1]) == [address, "http", "/who"]
    site.wait_for(rf'gunicorn.access {re.escape(address)} .*"GET /who ')


@pytest.mark.django_db(transaction=True, databases=["default", "replica"])
def test_a_replica_that_goes_is_told_in_one_sentence(lsn_replayed, replica_down, caplog):
    lsn_replayed()
    caplog.set_level(logging.INFO, "dbrouting")
    with replica_down():
        pass
    told = [message for message in caplog.messages if message.startswith(f"replica is {State.DOWN}")]
    assert len(told) == 1
    assert re.fullmatch(r"replica is down \(before: up\): it cannot be reached \(.+\)", told[0])
    assert any(message.startswith("replica is up (before: half-open)") for message in caplog.messages)
