"""Django's `migrate`, by an executor of our own; Django has no setting for it. The apps of INSTALLED_APPS come before
Django's own commands.
"""

from django.core.management.commands import migrate

from ops.executor import PatientExecutor

migrate.MigrationExecutor = PatientExecutor  # type: ignore[attr-defined]

Command = migrate.Command
