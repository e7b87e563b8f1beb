"""A network with a round-trip time, for kernels without `tc netem`: passes bytes on after half of it, each way.

usage: relay.py RTT_MS PORT=HOST…     says that it listens
"""

import socket
import sys
import threading
import time
from contextlib import suppress

# Seconds that passing something on takes by itself, on the machine of the published run: micro.py measures what is left.
OWN = 0.0001
delay = float(sys.argv[1]) / 2000 - OWN


def pass_on(source: socket.socket, target: socket.socket) -> None:
    """A thread for each direction: a question waits for its answer, so nothing overtakes this sleep."""
    with suppress(OSError):
        while data := source.recv(65536):
            time.sleep(delay)
            target.sendall(data)
    # The end of one direction is the end of both, as it is for PostgreSQL.
    for end in (source, target):
        with suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)


def serve(near: socket.socket, host: str) -> None:
    # TCP's own handshake takes a round trip too.
    time.sleep(2 * delay)
    with near, socket.create_connection((host, 5432)) as far:
        for end in (near, far):
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        back = threading.Thread(target=pass_on, args=(far, near), daemon=True)
        back.start()
        pass_on(near, far)
        back.join()


def listen(server: socket.socket, host: str) -> None:
    while True:
        threading.Thread(target=serve, args=(server.accept()[0], host), daemon=True).start()


for port, host in (argument.split("=") for argument in sys.argv[2:]):
    server = socket.create_server(("127.0.0.1", int(port)), backlog=512)
    threading.Thread(target=listen, args=(server, host), daemon=True).start()
print("listening", flush=True)
threading.Event().wait()
