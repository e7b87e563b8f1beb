"""Which choices cannot work. Standard library only: `docker compose up` asks this before it replaces anything, by
building the image `choices`.
"""

import os
import re
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
    if commit != "local" and replicas in ("0", "1"):
        yield Problem(
            2,
            f"SYNCHRONOUS_COMMIT={commit} needs two replicas, and REPLICAS is {replicas}: a COMMIT waits for one of "
            "them, so all writes would wait as long as the only one is away.",
            "Set REPLICAS to 2 or more, or SYNCHRONOUS_COMMIT to local, in .env.",
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
    primary = env.get("PRIMARY_HOST", "primary")
    nodes = ["primary", *(f"replica-{number}" for number in range(1, int(replicas) + 1 if replicas.isdecimal() else 1))]
    if primary not in nodes:
        yield Problem(
            21,
            f"PRIMARY_HOST={primary} is no node that runs with REPLICAS={replicas}: {', '.join(nodes)}.",
            "Set PRIMARY_HOST to the primary, or REPLICAS so that it runs, in .env.",
        )
    memory = env.get("NODE_MEMORY", "1g")
    if not re.fullmatch(r"[1-9]\d*[mMgG]", memory) or (memory[-1] in "mM" and int(memory[:-1]) < 256):
        yield Problem(
            22,
            f"NODE_MEMORY={memory} is no size for a node.",
            "Set NODE_MEMORY to 256m or more, such as 512m or 4g, in .env.",
        )
    cache = env.get("CACHE_BACKEND", "memory")
    if cache not in ("memory", "valkey", "url"):
        yield Problem(
            23,
            f"CACHE_BACKEND={cache} is no cache.",
            "Set CACHE_BACKEND to memory, valkey or url in .env.",
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
