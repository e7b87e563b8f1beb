"""gunicorn's settings, from the same choices: WEB_WORKER, WEB_WORKERS, WEB_THREADS, LOG_FORMAT,
TRUSTED_PROXIES."""

from typing import Any

from environ import Env
from gunicorn import glogging  # type: ignore[import-untyped]

from config.logs import logging_config
from config.proxies import trusted_proxies, visitor

env = Env()

bind = env.str("WEB_BIND", "0.0.0.0:8000")
worker_class = env.str("WEB_WORKER", "gthread")
workers = env.int("WEB_WORKERS", 2)
if worker_class == "gthread":
    worker_class = "config.threads.Worker"
    # The asgi worker warns of it.
    threads = env.int("WEB_THREADS", 4)
# Visitors that a worker serves at once (an asgi worker: config/asgi.py). Without a pool each may hold a connection to
# each database under gevent and asgi: workers x this x databases is to stay below PgBouncer's max_client_conn.
worker_connections = env.int("WEB_CONNECTIONS", 100)
wsgi_app = "config.asgi:application" if worker_class == "asgi" else "config.wsgi:application"

# Seconds. A worker that does not answer is replaced; at a stop, running requests may end.
timeout = 60
graceful_timeout = 30
# For an asgi request whose visitor has left. After gunicorn's own 3 s it would be cancelled where nobody gives back its
# database connection: WEB_THREADS of them, and a pool is empty for good. It ends by itself; statements have a timeout.
asgi_disconnect_grace_period = 3600
# Not wanted, and it would be made under HOME, which is read-only in the container.
control_socket_disable = True

# A visitor whose requests overlap may hold a consistency token for each.
limit_request_field_size = 16380

trusted = trusted_proxies(env.str("TRUSTED_PROXIES", ""))
# From them X-Forwarded-Proto is heeded, and no other header: what a proxy does not set, it may pass on from a visitor.
# gunicorn's own lists hold X-Forwarded-Ssl too, and SCRIPT_NAME, by which a visitor would choose where links lead.
forwarded_allow_ips = ",".join(map(str, trusted))
secure_scheme_headers = {"X-FORWARDED-PROTO": "https"}
forwarder_headers = ""


class Logger(glogging.Logger):  # type: ignore[misc]
    """Of the access log: without health checks that find everything well, and with the visitor's address where a
    trusted proxy tells it.
    """

    def access(self, resp: Any, req: Any, environ: dict[str, Any], request_time: Any) -> None:
        if environ.get("PATH_INFO") in ("/livez", "/readyz") and str(resp.status).startswith("200"):
            return
        super().access(resp, req, environ, request_time)

    def atoms(self, resp: Any, req: Any, environ: dict[str, Any], request_time: Any) -> dict[str, Any]:
        forwarded_for = ",".join(value for name, value in req.headers if name.upper() == "X-FORWARDED-FOR")
        atoms: dict[str, Any] = super().atoms(resp, req, environ, request_time)
        return atoms | {"h": visitor(atoms["h"], forwarded_for, trusted)}


logger_class = Logger
accesslog = "-"
logconfig_dict = logging_config(env.str("LOG_FORMAT", "plain"), env.str("LOG_LEVEL", "INFO").upper())


def post_worker_init(worker: Any) -> None:
    """Asks the nodes where they stand before the first request comes, so that a replica can serve it."""
    from dbrouting.monitor import monitor

    monitor.start()
