# ruff: noqa: F403, F405  (a settings module on top of another: Django's own idiom)
"""The generated project's settings with one of the four routers; RACE_ROUTER names it. Each is set up as its own
documentation says; everything else is the same for all.
"""

import os

from config.settings import *
from django_replicated.settings import *

ROUTER = os.environ["RACE_ROUTER"]
REPLICA_ALIASES = list(DBROUTING["REPLICAS"])
# PBKDF2 takes longer than all the rest of a login: it would be what is measured.
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]

ROUTER_MIDDLEWARE = {
    "naive": [],
    # "It must be listed before any other middleware which performs database writes."
    "multidb": ["multidb.middleware.PinningRouterMiddleware"],
    "replicated": ["django_replicated.middleware.ReplicationMiddleware"],
    "dbrouting": ["dbrouting.middleware.ConsistencyMiddleware"],
}[ROUTER]

if ROUTER != "dbrouting":
    INSTALLED_APPS.remove("dbrouting")
    MIDDLEWARE.remove("dbrouting.middleware.ConsistencyMiddleware")
    MIDDLEWARE = [*ROUTER_MIDDLEWARE, *MIDDLEWARE]
    SESSION_ENGINE = "django.contrib.sessions.backends.db"
    # Django's own backend, with its health checks, which save these three from the connections that a fault has broken.
    for _alias in REPLICA_ALIASES:
        DATABASES[_alias] |= {"ENGINE": "django.db.backends.postgresql", "CONN_HEALTH_CHECKS": True}
    DATABASE_ROUTERS = {
        "naive": ["naive.PrimaryReplicaRouter"],
        "multidb": ["multidb.PinningReplicaRouter"],
        "replicated": ["django_replicated.router.ReplicationRouter"],
    }[ROUTER]
REPLICA_DATABASES = REPLICATED_DATABASE_SLAVES = REPLICA_ALIASES
