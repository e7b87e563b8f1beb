"""Sessions in the database, read from replicas. For SESSION_ENGINE: nobody is logged out by a replica that is behind.

A session row that this visitor wrote is there, since the token in the next cookie demands it; one that is missing for
another reason (a client that dropped the token) is looked up on the primary. What is read of a user is as new as the
session: both come from the same replica or from the primary, and whoever changes a password writes the user before the
session.
"""

from typing import Any

from django.contrib.sessions.backends import db

from dbrouting.context import current_context, use_primary


def _may_be_behind() -> bool:
    """Whether what has just been read came from a replica."""
    context = current_context()
    return context is not None and not context.touched


class SessionStore(db.SessionStore):
    def load(self) -> dict[str, Any]:
        key = self._session_key
        found: dict[str, Any] = super().load()
        # Not found: load() has dropped the key.
        if self._session_key is not None or not _may_be_behind():
            return found
        self._session_key = key
        with use_primary():
            return super().load()

    async def aload(self) -> dict[str, Any]:
        key = self._session_key
        found: dict[str, Any] = await super().aload()
        if self._session_key is not None or not _may_be_behind():
            return found
        self._session_key = key
        with use_primary():
            return await super().aload()

    # Both look before they act: what a replica does not have yet would stay.

    def exists(self, session_key: str) -> bool:
        with use_primary():
            return bool(super().exists(session_key))

    async def aexists(self, session_key: str) -> bool:
        with use_primary():
            return bool(await super().aexists(session_key))

    def delete(self, session_key: str | None = None) -> None:
        with use_primary():
            super().delete(session_key)

    async def adelete(self, session_key: str | None = None) -> None:
        with use_primary():
            await super().adelete(session_key)
