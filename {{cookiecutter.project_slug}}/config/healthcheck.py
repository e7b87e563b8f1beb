"""The container's health: ready once, then alive.

Until its first success it asks /readyz, so that `up --wait` means that the site serves. After that it asks /livez: a
database that is away is no fault of this container, and replacing it would mend nothing.
"""

from pathlib import Path
from urllib.request import urlopen

# On tmpfs: gone when the container starts again.
READY_ONCE = Path("/tmp/ready-once")


def main() -> None:
    """:raises OSError: (URLError, timeout) if the site does not answer, or not with success."""
    path = "livez" if READY_ONCE.exists() else "readyz"
    with urlopen(f"http://127.0.0.1:8000/{path}", timeout=4):
        READY_ONCE.touch()


if __name__ == "__main__":
    main()
