"""The combinations that the template refuses, refused again here: .env can be edited.

`migrate` runs them before the web service starts, so a wrong edit stops at `docker compose up`.
"""

from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Error, register


@register()
def combinations(app_configs: Any, **kwargs: Any) -> list[CheckMessage]:
    problems: list[CheckMessage] = []
    if settings.POOL_MODE == "statement" and not settings.REPLICAS:
        problems.append(
            Error(
                "POOL_MODE=statement needs a replica: it pools only the replicas' reads, since it refuses BEGIN.",
                hint="Set REPLICAS to 1 or more, or POOL_MODE to transaction, in .env.",
                id="ops.E001",
            )
        )
    if settings.SYNCHRONOUS_COMMIT != "local" and not settings.REPLICAS:
        problems.append(
            Error(
                f"SYNCHRONOUS_COMMIT={settings.SYNCHRONOUS_COMMIT} needs a replica: a COMMIT waits for one.",
                hint="Set REPLICAS to 1 or more, or SYNCHRONOUS_COMMIT to local, in .env.",
                id="ops.E002",
            )
        )
    if settings.CONNECTION_STRATEGY == "persistent" and settings.WEB_WORKER != "gthread":
        problems.append(
            Error(
                f"CONNECTION_STRATEGY=persistent needs lasting threads; WEB_WORKER={settings.WEB_WORKER} has none.",
                hint="Set CONNECTION_STRATEGY to pool or per-request, or WEB_WORKER to gthread, in .env.",
                id="ops.E003",
            )
        )
    if not 0 <= settings.REPLICAS <= 3:
        problems.append(
            Error(
                f"REPLICAS={settings.REPLICAS}: compose.yaml has three replicas.",
                hint="Set REPLICAS to a number from 0 to 3 in .env.",
                id="ops.E004",
            )
        )
    return problems
