from config.backends.lease import LeaseMixin
from config.backends.prepared import PreparingMixin
from dbrouting.backends.geventpool import base


class DatabaseWrapper(PreparingMixin, LeaseMixin, base.DatabaseWrapper):
    pass
