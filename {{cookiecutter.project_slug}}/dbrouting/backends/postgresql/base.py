from django.db.backends.postgresql import base

from dbrouting.backends.replica import ReplicaMixin


class DatabaseWrapper(ReplicaMixin, base.DatabaseWrapper):
    pass
