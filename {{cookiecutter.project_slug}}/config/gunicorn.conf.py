"""gunicorn's settings, from the same choices: WEB_WORKER, WEB_WORKERS, WEB_THREADS, LOG_FORMAT."""

from typing import Any

from environ import Env

from config.logs import logging_config

env = Env()

bind = env.str("WEB_BIND", "0.0.0.0:8000")
worker_class = env.str("WEB_WORKER", "gthread")
workers = env.int("WEB_WORKERS", 2)
threads = env.int("WEB_THREADS", 4)
# Requests that a gevent worker serves at once (an asgi worker: config/asgi.py). Without a pool each may hold a
# connection to each database: workers x this x databases is to stay below PgBouncer's max_client_conn.
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

accesslog = "-"
logconfig_dict = logging_config(env.str("LOG_FORMAT", "plain"), env.str("LOG_LEVEL", "INFO").upper())


def post_worker_init(worker: Any) -> None:
    """Asks the nodes where they stand before the first request comes, so that a replica can serve it."""
    from dbrouting.monitor import monitor

    monitor.start()
