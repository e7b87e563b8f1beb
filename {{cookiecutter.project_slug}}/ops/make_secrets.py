"""Makes the secrets that are missing from secrets/, one value a file; keeps those that are there.

Run it after cloning the project, since git ignores the directory: python ops/make_secrets.py
"""

import os
import secrets
from pathlib import Path

DIRECTORY = Path(__file__).resolve().parent.parent / "secrets"
NAMES = ("app_password", "owner_password", "replicator_password", "monitor_password", "secret_key")


def make_secrets(directory: Path = DIRECTORY) -> list[str]:
    """Writes the missing secrets and returns their names.

    The directory is 0700 and the files 0644: compose mounts each file with the owner and mode that it has on the
    host, and the containers' users must read them; on the host nobody else gets past the directory.
    """
    directory.mkdir(mode=0o700, exist_ok=True)
    directory.chmod(0o700)
    made = []
    for name in NAMES:
        path = directory / name
        if path.is_file() and path.stat().st_size:
            continue
        # Written beside and renamed: a run that dies half-way leaves no half a secret.
        unfinished = directory / f".{name}"
        # URL-safe: it stands in a URL, a passfile and PgBouncer's user list without escaping. 384 bits.
        unfinished.write_text(secrets.token_urlsafe(48) + "\n")
        unfinished.chmod(0o644)
        os.replace(unfinished, path)
        made.append(name)
    return made


if __name__ == "__main__":
    print("secrets made:", ", ".join(make_secrets()) or "none, all are there")
