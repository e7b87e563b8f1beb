"""Which choices cannot work. Standard library only: `docker compose up` asks this before it replaces anything, by
building the image `choices`.
"""

import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from ops.budget import Problem, budget, limits_in


def problems(env: Mapping[str, str], project: Path) -> Iterator[Problem]:
    """What the template refuses, said again, since .env can be edited.

    :param env: the choices as .env has them
    :param project: its directory, for what the files of the servers allow
    """
    pool_mode, commit = env.get("POOL_MODE", "transaction"), env.get("SYNCHRONOUS_COMMIT", "local")
    strategy, worker = env.get("CONNECTION_STRATEGY", "persistent"), env.get("WEB_WORKER", "gthread")
    replicas = env.get("REPLICAS", "3")
    if pool_mode == "statement" and replicas == "0":
        yield Problem(
            1,
            "POOL_MODE=statement needs a replica: it pools only the replicas' reads, since it refuses BEGIN.",
            "Set REPLICAS to 1 or more, or POOL_MODE to transaction, in .env.",
        )
    if commit != "local" and replicas == "0":
        yield Problem(
            2,
            f"SYNCHRONOUS_COMMIT={commit} needs a replica: a COMMIT waits for one.",
            "Set REPLICAS to 1 or more, or SYNCHRONOUS_COMMIT to local, in .env.",
        )
    if strategy == "persistent" and worker != "gthread":
        yield Problem(
            3,
            f"CONNECTION_STRATEGY=persistent needs lasting threads; WEB_WORKER={worker} has none.",
            "Set CONNECTION_STRATEGY to pool or per-request, or WEB_WORKER to gthread, in .env.",
        )
    if replicas not in ("0", "1", "2", "3"):
        yield Problem(
            4,
            f"REPLICAS={replicas}: compose.yaml has three replicas.",
            "Set REPLICAS to a number from 0 to 3 in .env.",
        )
    try:
        yield from budget(env, limits_in(project)).problems()
    except FileNotFoundError:
        pass  # somebody else's servers: `manage.py check --database default` asks them
    except ValueError as error:
        what, _, remedy = str(error).partition(". ")
        yield Problem(8, f"{what}.", remedy)


if __name__ == "__main__":
    found = [f"{problem.text} {problem.remedy}" for problem in problems(os.environ, Path.cwd())]
    sys.exit("\n".join(found) or 0)
