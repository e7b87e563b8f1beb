from config.backends.prepared import PreparingMixin
from dbrouting.backends.geventpool import base


class DatabaseWrapper(PreparingMixin, base.DatabaseWrapper):
    pass
