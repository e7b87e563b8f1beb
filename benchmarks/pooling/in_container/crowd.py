"""Clients, each with a connection of its own: they come fifty at a time, ask for a row all at once, and stay.

usage: crowd.py HOST CLIENTS     prints a line of JSON; the end of standard input is the end of the connections
"""

import json
import sys
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psycopg
from connecting import SQL, connect
from psycopg.pq import ExecStatus

host, clients = sys.argv[1], int(sys.argv[2])
errors = Counter[str]()


def come(number: int) -> "psycopg.Connection[Any] | None":
    try:
        return connect(host, connect_timeout=60)
    except psycopg.Error as error:
        errors[str(error).strip().splitlines()[-1].split("FATAL:")[-1].strip()] += 1
        return None


with ThreadPoolExecutor(50) as door:
    came = [connection for connection in door.map(come, range(clients)) if connection]
for connection in came:
    connection.pgconn.send_query(SQL.replace("%s", "'bench-0'").encode())
answers = [connection.pgconn.get_result() for connection in came]
failed = sum(answer is None or answer.status != ExecStatus.TUPLES_OK for answer in answers)
told = {"clients": clients, "admitted": len(came), "refused": clients - len(came), "failed": failed}
# PostgreSQL's processes; PgBouncer makes up a number.
processes = [connection.info.backend_pid for connection in came]
print(json.dumps(told | {"errors": dict(errors.most_common(4)), "processes": processes}), flush=True)
sys.stdin.read()
