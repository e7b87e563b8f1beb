from config.backends.prepared import PreparingMixin
from dbrouting.backends.postgresql import base


class DatabaseWrapper(PreparingMixin, base.DatabaseWrapper):
    pass
