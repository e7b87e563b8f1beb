"""A network with a round-trip time, for kernels without `tc netem`: passes bytes on after half of it, each way.

usage: relay.py RTT_MS PORT=HOST…
"""

import socket
import sys
import threading
import time
from contextlib import suppress

# Seconds that passing something on takes by itself, on the machine of the published run: micro.py measures what is left.
OWN = 0.0001


def pass_on(source: socket.socket, target: socket.socket, delay: float) -> None:
    """A thread for each direction: a question waits for its answer, so nothing overtakes this sleep."""
    with suppress(OSError):
        while data := source.recv(65536):
            time.sleep(delay)
            target.sendall(data)
    # The end of one direction is the end of both, as it is for PostgreSQL.
    for end in (source, target):
        with suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)


def serve(near: socket.socket, host: str, delay: float) -> None:
    # TCP's own handshake takes a round trip too.
    time.sleep(2 * delay)
    with near, socket.create_connection((host, 5432)) as far:
        for end in (near, far):
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        back = threading.Thread(target=pass_on, args=(far, near, delay), daemon=True)
        back.start()
        pass_on(near, far, delay)
        back.join()


def listen(port: int, host: str, delay: float) -> None:
    with socket.create_server(("127.0.0.1", port), backlog=512) as server:
        while True:
            near, _ = server.accept()
            threading.Thread(target=serve, args=(near, host, delay), daemon=True).start()


delay = float(sys.argv[1]) / 2000 - OWN
for argument in sys.argv[2:]:
    port, host = argument.split("=")
    threading.Thread(target=listen, args=(int(port), host, delay), daemon=True).start()
threading.Event().wait()
