"""Is a connection that was kept open still one? Asked of its socket, where Django asks the server: no round trip.
It takes 2 microseconds, where the query takes 130 directly and 201 through PgBouncer.

A server or pooler that is gone has closed the connection, and then the socket is readable; so it is if a notice waits.
Only then the query decides. A socket cannot tell that a network has gone silent: TCP's keepalive finds that within 45 s
of idling, and a request before that fails after `tcp_user_timeout`, 10 s, where a query would fail in its place.
"""

import select
from typing import Any

import psycopg
from psycopg.pq import TransactionStatus
from psycopg_pool import ConnectionPool


def is_quiet(connection: "psycopg.Connection[Any]") -> bool:
    """Whether it is open, in no transaction, and nothing has come since its last answer: not its end either."""
    if connection.pgconn.transaction_status != TransactionStatus.IDLE:
        return False
    # Not select(), which knows no descriptor above 1023.
    socket = select.poll()
    socket.register(connection.pgconn.socket, select.POLLIN)
    return not socket.poll(0)


def check(connection: "psycopg.Connection[Any]") -> None:
    """For psycopg's pool.

    :raises psycopg.OperationalError: if the connection is dead
    """
    if is_quiet(connection):
        return
    try:
        ConnectionPool.check_connection(connection)
    except psycopg.Error:
        if connection.closed:
            # The others have died with it, most likely. Found one by one, each would cost a wait longer than the last.
            connection._pool.drain()  # type: ignore[union-attr]
        raise
