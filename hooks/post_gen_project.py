"""Writes .env and the secrets, and prints what was chosen. No network, no Docker; a second run (cruft, an update) changes nothing."""

import json
import runpy
from pathlib import Path

# tojson escapes every apostrophe, so nothing in an answer can end this literal.
ANSWERS = json.loads(r"""{{ cookiecutter | tojson }}""")

CHOICES = (
    "postgres_version", "replicas", "synchronous_commit", "pool_mode", "web_worker", "connection_strategy",
)  # fmt: skip


def connections() -> list[str]:
    """The connection budget of these choices, as `manage.py budget` shows it."""
    ours = runpy.run_path("ops/budget.py")
    env = dict(line.split("=", 1) for line in Path(".env").read_text().splitlines() if line[:1].isupper())
    rows = ours["budget"](env, ours["limits_in"](Path("."))).rows()
    return [f"  {number:>4} of {of}: {what}" for what, number, of in rows]


def summary(answers: dict) -> str:
    lines = [f"\n{answers['project_name']} is in ./{answers['project_slug']}\n"]
    lines += [f"  {choice:<20} {answers[choice]}" for choice in CHOICES]
    lines += ["\nConnections, at most:", *connections()]
    lines += [
        "\nEach choice is a line of .env: edit it, then `ops/deploy`. Git ignores .env and secrets/: after a clone, `make setup`.",
        f"\nNext:\n  cd {answers['project_slug']}",
        "  docker compose up -d --build --wait && docker compose exec web python manage.py topology",
        "  or, without Docker:  make devstack\n",
    ]
    return "\n".join(lines)


def main() -> None:
    runpy.run_path("ops/setup.py", run_name="__main__")
    print(summary(ANSWERS))


if __name__ == "__main__":
    main()
