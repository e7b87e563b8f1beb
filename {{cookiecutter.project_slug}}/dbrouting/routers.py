"""The read/write router: writes to the primary, reads to a replica where that cannot be told from the primary."""

import random
from collections.abc import Callable
from typing import Any

from django.conf import settings
from django.db import connections, router
from django.db.models import Model

from dbrouting.conf import config, ours
from dbrouting.context import ConsistencyContext, current_context, current_override
from dbrouting.monitor import Sample, monitor

# What a statement that writes nothing begins with; any other might.
READING = ("SELECT", "SAVEPOINT", "RELEASE", "SET ")


class ReadWriteRouter:
    """For DATABASE_ROUTERS, as the last. `monitor.report()` tells how often each reason has decided.

    It has no opinion (None) on what is in another database: then the next router decides, or Django, which stays with
    the object.
    """

    def db_for_read(self, model: type[Model], **hints: Any) -> str | None:
        if self._is_elsewhere("db_for_read", model, hints):
            return None
        alias, reason = _decide(model)
        monitor.count(reason)
        if (context := current_context()) is not None:
            context.answers_of(alias, reason)
        return alias

    def db_for_write(self, model: type[Model], **hints: Any) -> str | None:
        """The primary, which from here on also serves this context's reads."""
        if self._is_elsewhere("db_for_write", model, hints):
            return None
        if (context := current_context()) is not None:
            context.touched = context.wrote = True
            context.answers_of(config().PRIMARY, "a write")
        return config().PRIMARY

    def allow_relation(self, one: Model, other: Model, **hints: Any) -> bool | None:
        """Between our aliases always: all are copies of one database. About others it has no opinion."""
        return True if _is_ours(one) and _is_ours(other) else None

    def allow_migrate(self, db: str, app_label: str, **hints: Any) -> bool | None:
        """Never on a replica, which gets its schema by replication. About others it has no opinion."""
        return False if db in config().REPLICAS else None

    def _is_elsewhere(self, method: str, model: type[Model], hints: dict[str, Any]) -> bool:
        """Whether the object is from another database, or a router after this one sends its model to one."""
        if (instance := hints.get("instance")) is not None and not _is_ours(instance):
            return True
        ours_is_past = False
        for other in router.routers:
            if ours_is_past and (ask := getattr(other, method, None)) and (alias := ask(model, **hints)):
                return alias not in ours()
            ours_is_past = ours_is_past or other is self
        return False


def _is_ours(instance: Model) -> bool:
    """Read from one of our aliases, or from nowhere yet."""
    return instance._state.db is None or instance._state.db in ours()


def _decide(model: type[Model]) -> tuple[str, str]:
    """An alias and the reason; the first rule that applies decides."""
    primary, context, override = config().PRIMARY, current_context(), current_override()
    if not config().REPLICAS:
        return primary, "no replicas"
    app_label = model._meta.app_label
    if override is not None and override.max_staleness is None:
        return primary, "use_primary()"
    # Who the visitor is, is not what may be old.
    if override is not None and app_label not in ("sessions", settings.AUTH_USER_MODEL.split(".")[0]):
        proofs = {proof.alias: proof for proof in _proofs(override.max_staleness)}
        # QuerySet.db asks again on every access: the same one, as long as it will do.
        alias = override.proof.alias if override.proof else ""
        override.proof = proofs.get(alias) or next(iter(proofs.values()), None)
        return (override.proof.alias, "use_replica()") if override.proof else (primary, "no replica is that fresh")
    if context is None:
        return primary, "no context"
    if app_label in config().PRIMARY_ONLY_APPS:
        return primary, "primary-only app"
    # Django asks no router about atomic(): what a transaction has written, only its own connection sees.
    if connections[primary].in_atomic_block:
        return primary, "in atomic()"
    if not context.safe:
        return primary, "unsafe method"
    if context.touched:
        return primary, "this context has asked the primary"
    return _replica(context)


def _replica(context: ConsistencyContext) -> tuple[str, str]:
    """One that satisfies the context; always the same, since two would show two states."""
    primary, reason = config().PRIMARY, "token satisfied" if context.tokens else "no token"
    if context.proof is not None:
        replica = monitor.replica(context.proof.alias)
        if replica.proof() and replica.holds(context.proof):
            return replica.alias, reason
        return primary, "the context's replica is out"
    candidates = _proofs()
    if not candidates:
        return primary, "no replica is up"
    if (chosen := context.choose(candidates)) is None:
        return primary, "no replica is as far as the token"
    return chosen.alias, reason


def _proofs(max_staleness: float | None = None) -> list[Sample]:
    """Of the replicas that may be read, in random order."""
    proofs = [proof for alias in config().REPLICAS if (proof := monitor.replica(alias).proof(max_staleness))]
    random.shuffle(proofs)
    return proofs


def touch(execute: Callable[..., Any], sql: Any, params: Any, many: bool, context: dict[str, Any]) -> Any:
    """Around each statement on the primary (database instrumentation): whoever was sent here, or named it himself with
    `using("default")` or a cursor, has from now on seen what a replica may not have.
    """
    if (current := current_context()) is not None:
        current.touched = True
        current.answers_of(config().PRIMARY).count += 1
        current.wrote = current.wrote or not str(sql).lstrip().upper().startswith(READING)
    return execute(sql, params, many, context)
