from django.db.backends.postgresql import base, creation

from dbrouting.backends.replica import CreationMixin, ReplicaMixin


class DatabaseCreation(CreationMixin, creation.DatabaseCreation):
    pass


class DatabaseWrapper(ReplicaMixin, base.DatabaseWrapper):
    creation_class = DatabaseCreation
