"""Clients, each with a connection of its own: they come one after the other, ask for a row all at once, and stay.

usage: crowd.py HOST CLIENTS     prints a line of JSON; the end of standard input is the end of the connections
"""

import json
import sys
from collections import Counter

import psycopg
from connecting import SQL, connect
from psycopg.pq import ExecStatus

host, clients = sys.argv[1], int(sys.argv[2])
came, errors = [], Counter[str]()
for _ in range(clients):
    try:
        came.append(connect(host, connect_timeout=60))
    except psycopg.Error as error:
        errors[str(error).strip().splitlines()[-1].split("FATAL:")[-1].strip()] += 1
refused = errors.total()
for connection in came:
    connection.pgconn.send_query(SQL.replace("%s", "'bench-0'").encode())
for connection in came:
    answer = connection.pgconn.get_result()
    if answer is None or answer.status != ExecStatus.TUPLES_OK:
        errors[connection.pgconn.get_error_message()] += 1
told = {"clients": clients, "admitted": len(came), "refused": refused, "failed": errors.total() - refused}
# PostgreSQL's processes; PgBouncer makes up a number.
processes = [connection.info.backend_pid for connection in came]
print(json.dumps(told | {"errors": dict(errors.most_common(4)), "processes": processes}), flush=True)
sys.stdin.read()
