"""Makes what git does not hold: .env, a copy of .env.example, and the secrets, one value a file. Keeps what is there.

Run it after cloning the project: python ops/setup.py
"""

import os
import re
import secrets
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent
NAMES = ("app_password", "owner_password", "replicator_password", "monitor_password", "cache_password", "secret_key")
# Others give these. Compose mounts them, so they are there, and empty until you write in them.
GIVEN = ("email_password", "s3_secret_key")


def make_secrets(directory: Path = PROJECT / "secrets") -> list[str]:
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
        # URL-safe: it stands in a URL, a passfile and PgBouncer's user list without escaping. 384 bits.
        _write(path, f"{secrets.token_urlsafe(48)}\n")
        made.append(name)
    for name in GIVEN:
        if not (directory / name).exists():
            _write(directory / name, "")
    return made


def make_env(project: Path = PROJECT) -> str:
    """Copies .env.example to .env if that is missing.

    :return: what was done, or which choices of .env.example an older .env lacks
    """
    example, path = project / ".env.example", project / ".env"
    text = example.read_text(encoding="utf-8")
    if not path.is_file():
        _write(path, text)
        return ".env made: a copy of .env.example"
    lacking = sorted(_choices(text) - _choices(path.read_text(encoding="utf-8")))
    if lacking:
        return f".env is kept. It lacks {', '.join(lacking)}: copy these lines from .env.example."
    return ".env is kept"


def _choices(text: str) -> set[str]:
    return set(re.findall(r"^(\w+)=", text, flags=re.MULTILINE))


def _write(path: Path, text: str) -> None:
    """Beside it, and renamed: a run that dies half-way leaves no half a file. With \\n at each end, on Windows too."""
    unfinished = path.with_name(f".{path.name.lstrip('.')}.unfinished")
    unfinished.write_text(text, encoding="utf-8", newline="\n")
    unfinished.chmod(0o644)
    os.replace(unfinished, path)


if __name__ == "__main__":
    print(make_env())
    print("secrets made:", ", ".join(make_secrets()) or "none, all are there")
