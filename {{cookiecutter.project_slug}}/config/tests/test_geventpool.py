"""django-db-geventpool as the project corrects it."""

from typing import Any

import gevent
import psycopg
import pytest

from dbrouting.backends.geventpool.base import Pool


@pytest.mark.django_db(transaction=True)
def test_who_waits_is_served_when_all_in_use_break(parameters):
    pool = Pool(MAX_CONNS=2, REUSE_CONNS=2, **parameters)
    in_use = [pool.get(), pool.get()]
    waiting = [gevent.spawn(pool.get) for _ in range(2)]
    gevent.sleep(0.2)
    assert not any(waiter.ready() for waiter in waiting)
    for connection in in_use:
        connection.close()
    with gevent.Timeout(5):
        served = [waiter.get() for waiter in waiting]
    assert [connection.execute("SELECT 1").fetchone() for connection in served] == [(1,), (1,)]
    for connection in served:
        pool.put(connection)
    pool.close()


@pytest.mark.django_db(transaction=True)
def test_a_burst_opens_no_more_than_the_pool_may_hold(parameters):
    opened = []

    def connect(**given: Any) -> psycopg.Connection:
        gevent.sleep(0.05)  # as under gevent, others go on while this opens
        opened.append(psycopg.connect(**given))
        return opened[-1]

    pool = Pool(MAX_CONNS=2, REUSE_CONNS=2, connect=connect, **parameters)

    def ask() -> None:
        connection = pool.get()
        gevent.sleep(0.01)
        pool.put(connection)

    with gevent.Timeout(10):
        gevent.joinall([gevent.spawn(ask) for _ in range(20)], raise_error=True)
    assert len(opened) == 2
    pool.close()
