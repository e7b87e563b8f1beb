"""Refuses answers that cannot work, before anything is rendered. Standard library only: it runs in cookiecutter's Python."""

import json
import keyword
import re
import sys
import unicodedata
from pathlib import Path

# tojson escapes every apostrophe, so nothing in an answer can end this literal.
ANSWERS = json.loads(r"""{{ cookiecutter | tojson }}""")

# What the name would collide with: the project's own packages and those that it is made of, PostgreSQL's own databases,
# PgBouncer's console and its names for the replicas.
TAKEN = {"articles", "config", "dbrouting", "ops", "postgres", "pgbouncer", "secrets", "tests", "users", "manage",
         "static", "templates", "template0", "template1", "replication", "django", "psycopg", "gunicorn", "test",
         "replica_1", "replica_2", "replica_3"}  # fmt: skip

# Reserved in PostgreSQL 18, Appendix C of its manual ("reserved", with or without exceptions).
SQL_RESERVED = set(
    """all analyse analyze and any array as asc asymmetric authorization binary both case cast check collate collation
    column concurrently constraint create cross current_catalog current_date current_role current_schema current_time
    current_timestamp current_user default deferrable desc distinct do else end except false fetch for foreign freeze
    from full grant group having ilike in initially inner intersect into is isnull join lateral leading left like limit
    localtime localtimestamp natural not notnull null offset on only or order outer overlaps placing primary references
    returning right select session_user similar some symmetric system_user table tablesample then to trailing true
    union unique user using variadic verbose when where window with""".split()
)


class Refused(Exception):
    """An answer that cannot work: what is wrong, the value seen, the remedy."""


def project_name_is_printable(answers: dict) -> None:
    name = answers["project_name"]
    if not name.strip():
        raise Refused(f"project_name is empty ({name!r}). Give the site a name.")
    if len(name) > 100:
        raise Refused(f"project_name has {len(name)} characters ({name[:20]!r}…). Use at most 100.")
    if any(unicodedata.category(character) in ("Cc", "Cs", "Zl", "Zp") for character in name):
        raise Refused(f"project_name contains a control character or a line break ({name!r}). Leave it out.")


def project_slug_is_a_name(answers: dict) -> None:
    slug = answers["project_slug"]
    if not re.fullmatch(r"[a-z]([a-z0-9_]*[a-z0-9])?", slug):
        raise Refused(
            f"project_slug {slug!r} cannot name a Python package, a database and a compose project alike. "
            "Use small ASCII letters, digits and underscores, a letter first and no underscore last, such as 'my_site'."
        )
    if len(slug) > 63:
        raise Refused(
            f"project_slug has {len(slug)} bytes ({slug!r}); PostgreSQL cuts names at 63. Choose a shorter one."
        )


def project_slug_is_free(answers: dict) -> None:
    slug = answers["project_slug"]
    if keyword.iskeyword(slug) or keyword.issoftkeyword(slug):
        raise Refused(f"project_slug {slug!r} is a Python keyword. Choose another, such as '{slug}_site'.")
    if slug in SQL_RESERVED:
        raise Refused(f"project_slug {slug!r} is reserved in SQL. Choose another, such as '{slug}_site'.")
    if slug in TAKEN:
        raise Refused(f"project_slug {slug!r} is taken by a package that the project uses. Try '{slug}_site'.")


def statement_mode_has_a_replica(answers: dict) -> None:
    if answers["pool_mode"] == "statement" and answers["replicas"] == "0":
        raise Refused(
            "pool_mode 'statement' with replicas '0': statement pooling refuses BEGIN, which Django's writes need, so it "
            "pools only the replicas' reads, and there is no replica. Answer replicas with 1 or more, or pool_mode with "
            "'transaction'."
        )


def synchronous_commit_has_two_replicas(answers: dict) -> None:
    if answers["synchronous_commit"] != "local" and answers["replicas"] in ("0", "1"):
        raise Refused(
            f"synchronous_commit {answers['synchronous_commit']!r} with replicas {answers['replicas']!r}: every COMMIT waits "
            "for a replica, so all writes would wait as long as the only one is away. Answer replicas with 2 or more, or "
            "synchronous_commit with 'local'."
        )


def persistent_has_threads(answers: dict) -> None:
    if answers["connection_strategy"] == "persistent" and answers["web_worker"] != "gthread":
        raise Refused(
            f"connection_strategy 'persistent' with web_worker {answers['web_worker']!r}: CONN_MAX_AGE keeps one connection "
            "for each thread, and this worker gives every request a new one, so connections would pile up unused. Answer "
            "connection_strategy with 'pool' or 'per-request', or web_worker with 'gthread'."
        )


VALIDATORS = (
    project_name_is_printable,
    project_slug_is_a_name,
    project_slug_is_free,
    statement_mode_has_a_replica,
    synchronous_commit_has_two_replicas,
    persistent_has_threads,
)


def leave_nothing_behind(slug: str) -> None:
    """cookiecutter removes the directory that it made for the slug, but for 'a/b' it also made 'a'."""
    project = Path.cwd()
    for directory in [project, *project.parents][: len(Path(slug).parts)]:
        try:
            directory.rmdir()
        except OSError:  # not empty, so not ours
            return


def main() -> int:
    for validate in VALIDATORS:
        try:
            validate(ANSWERS)
        except Refused as refused:
            print(f"Error: {refused}", file=sys.stderr)
            if "/" in ANSWERS["project_slug"]:
                leave_nothing_behind(ANSWERS["project_slug"])
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
