"""Connections that have asked once and stay open until standard input ends.

usage: hold.py HOST NUMBER   tells the process of each, when they are
"""

import sys

from connecting import SQL, connect
from works import slug

held = [connect(sys.argv[1]) for _ in range(int(sys.argv[2]))]
for connection in held:
    connection.execute(SQL, [slug(0)])
# Of PostgreSQL's; PgBouncer makes up a number.
print(*(connection.info.backend_pid for connection in held), flush=True)
sys.stdin.read()
