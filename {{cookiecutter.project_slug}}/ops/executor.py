"""Migrations that stop no visitor, and that are recorded when they are applied, or not at all."""

import logging
import time
from collections.abc import Callable
from typing import Any

from django.core.management.base import CommandError
from django.db import OperationalError, transaction
from django.db.migrations import Migration
from django.db.migrations.executor import MigrationExecutor
from django.db.migrations.state import ProjectState

logger = logging.getLogger("ops")

# Seconds. A migration that changes a table waits for those who use it, and whoever comes then waits behind it, at most
# this long. Then they go first for PAUSE, and the migration tries again.
LOCK_TIMEOUT = 1.0
PAUSE = 2.0
# Five minutes in all. The site's own transactions end before: roles.sql bounds them.
TRIES = 100

# SQLSTATEs: a lock that was not free in time; a deadlock.
TAKEN = ("55P03", "40P01")


class PatientExecutor(MigrationExecutor):
    """Runs each atomic migration in one transaction together with its record. Django writes the record after it, so a
    migration that is killed between the two would be applied again.

    A try that fails is rolled back. What RunPython does elsewhere, in a file or another database, happens again.

    A migration that says `atomic = False` runs as Django runs it: half of it cannot be taken back, and what it does
    (CREATE INDEX CONCURRENTLY) waits for others without stopping them.

    :raises CommandError: for a lock that was never free; nothing of its migration has been applied then
    """

    def apply_migration(
        self, state: ProjectState, migration: Migration, fake: bool = False, fake_initial: bool = False
    ) -> ProjectState:
        apply = super().apply_migration
        return self._patiently(migration, state, lambda state: apply(state, migration, fake, fake_initial))

    def unapply_migration(self, state: ProjectState, migration: Migration, fake: bool = False) -> ProjectState:
        unapply = super().unapply_migration
        return self._patiently(migration, state, lambda state: unapply(state, migration, fake))

    def record_migration(self, *migration: Any, **options: Any) -> None:
        if self.connection.vendor == "postgresql" and self.connection.in_atomic_block:
            # Before it is called applied: what COMMIT would refuse.
            self.connection.check_constraints()
        super().record_migration(*migration, **options)

    def _patiently(
        self, migration: Migration, state: ProjectState, run: Callable[[ProjectState], ProjectState]
    ) -> ProjectState:
        if self.connection.vendor != "postgresql" or not migration.atomic or self.connection.in_atomic_block:
            return run(state)
        for number in range(1, TRIES + 1):
            try:
                with transaction.atomic(using=self.connection.alias):
                    with self.connection.cursor() as cursor:
                        cursor.execute(f"SET LOCAL lock_timeout = '{LOCK_TIMEOUT:g}s'")
                    # A try that fails has changed its state.
                    return run(state.clone())
            except OperationalError as error:
                if getattr(error.__cause__, "sqlstate", None) not in TAKEN:
                    raise
                logger.warning(
                    "%s: a table was in use for %g s (try %d of %d). Visitors go first; it tries again in %g s.",
                    migration,
                    LOCK_TIMEOUT,
                    number,
                    TRIES,
                    PAUSE,
                )
                time.sleep(PAUSE)
        raise CommandError(
            f"{migration} needs a table that others use all the time: {TRIES} tries of {LOCK_TIMEOUT:g} s. Nothing "
            "of it was applied. See who holds it: SELECT pid, usename, xact_start, query FROM pg_stat_activity "
            "WHERE xact_start IS NOT NULL ORDER BY xact_start. When they have ended, run migrate again."
        )
