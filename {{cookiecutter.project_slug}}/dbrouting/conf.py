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


@lru_cache(maxsize=1)
def config() -> Config:
    """:raises ImproperlyConfigured: for a key that is no field of `Config`, or a name where there is to be a list."""
    given: dict[str, Any] = dict(getattr(settings, "DBROUTING", {}))
    known = [field.name for field in fields(Config)]
    if unknown := given.keys() - set(known):
        raise ImproperlyConfigured(f"DBROUTING has {', '.join(sorted(unknown))}. It knows {', '.join(known)}.")
    for name, kind in (("REPLICAS", tuple), ("PRIMARY_ONLY_APPS", frozenset)):
        if isinstance(given.get(name), str):
            raise ImproperlyConfigured(f"DBROUTING[{name!r}] is {given[name]!r}. Give a list: [{given[name]!r}].")
        given[name] = kind(given.get(name, ()))
    return Config(**given)


def _forget(*, setting: str, **kwargs: Any) -> None:
    if setting == "DBROUTING":
        config.cache_clear()


setting_changed.connect(_forget)
