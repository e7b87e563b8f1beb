"""The settings of this app: `DBROUTING` in Django's settings, a dictionary with the fields of `Config`."""

from dataclasses import dataclass, fields
from functools import lru_cache
from typing import Any

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.core.signals import setting_changed


@dataclass(frozen=True)
class Config:
    """All times in seconds."""

    # Aliases that reads may go to. Each must be one server: what is known of a replica is known of its alias.
    REPLICAS: tuple[str, ...] = ()
    PRIMARY: str = "default"
    # Labels of apps whose tables are only ever read on the primary.
    PRIMARY_ONLY_APPS: frozenset[str] = frozenset()
    # A visitor who brings no token reads data of at most this age.
    MAX_STALENESS: float = 10.0
    # How long a token lives; it is renewed after half of that. By its end no replica may be read that is behind it, so
    # the longer it is, the longer replicas serve while the primary does not answer (`patience`).
    TOKEN_LIFE: float = 300.0
    # How often each process asks each node where it stands.
    SAMPLE_INTERVAL: float = 0.1
    # How long an answer may be relied on. A standby that starts must wait longer than this before it serves.
    PROOF_LIFE: float = 1.0
    # Names of the cookies begin with this.
    COOKIE: str = "dbrouting"

    @property
    def patience(self) -> float:
        """How long a replica's age is not counted on while the primary does not answer."""
        return self.TOKEN_LIFE / 2 - self.MAX_STALENESS - self.PROOF_LIFE


# In a test run: the aliases that the running test may use. None where no test runs.
_named: frozenset[str] | None = None


@lru_cache(maxsize=1)
def config() -> Config:
    """While a test runs, REPLICAS has only those that it names (`only`).

    :raises ImproperlyConfigured: for a key that is no field of `Config`, or a name where there is to be a list.
    """
    given: dict[str, Any] = dict(getattr(settings, "DBROUTING", {}))
    known = [field.name for field in fields(Config)]
    if unknown := given.keys() - set(known):
        raise ImproperlyConfigured(f"DBROUTING has {', '.join(sorted(unknown))}. It knows {', '.join(known)}.")
    for name, kind in (("REPLICAS", tuple), ("PRIMARY_ONLY_APPS", frozenset)):
        if isinstance(given.get(name), str):
            raise ImproperlyConfigured(f"DBROUTING[{name!r}] is {given[name]!r}. Give a list: [{given[name]!r}].")
        given[name] = kind(given.get(name, ()))
    if _named is not None:
        given["REPLICAS"] = tuple(alias for alias in given["REPLICAS"] if alias in _named)
    return Config(**given)


@lru_cache(maxsize=1)
def ours() -> frozenset[str]:
    """The aliases behind which are the primary's rows: itself, the replicas, and what says TEST MIRROR of it.

    That is how Django is told that an alias is no database of its own, so there is no second list to keep; without
    replicas, `replica` is ours by it.
    """
    primary = config().PRIMARY
    mirrors = (name for name, entry in settings.DATABASES.items() if entry.get("TEST", {}).get("MIRROR") == primary)
    return frozenset({primary, *config().REPLICAS, *mirrors})


def only(named: frozenset[str] | None) -> frozenset[str] | None:
    """From now on the replicas are those among these aliases; None: as configured. Returns what was so before."""
    global _named
    before, _named = _named, named
    _clear()
    return before


def _clear() -> None:
    config.cache_clear()
    ours.cache_clear()


def _forget(*, setting: str, **kwargs: Any) -> None:
    if setting in ("DBROUTING", "DATABASES"):
        _clear()


setting_changed.connect(_forget)
