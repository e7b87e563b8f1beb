"""Connections of the project's roles, without Django."""

from pathlib import Path
from typing import Any

import psycopg
from plan import DATABASE
from psycopg.conninfo import make_conninfo

SQL = "SELECT id, title FROM articles_article WHERE slug = %s"


def conninfo(host: str, *, port: int = 5432, user: str = "app", tls: bool = False, **more: Any) -> str:
    return make_conninfo(
        host=host, port=port, user=user, password=Path(f"/run/secrets/{user}_password").read_text().strip(),
        dbname=DATABASE, sslmode="require" if tls else "disable", **more,
    )  # fmt: skip


def connect(host: str, **how: Any) -> "psycopg.Connection[Any]":
    return psycopg.connect(conninfo(host, **how), autocommit=True, prepare_threshold=None)
