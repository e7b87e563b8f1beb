"""The generated project's settings, but for what SITE says. Without SITE's router and middleware only the pooling differs."""

import os

from config.settings import *  # noqa: F403
from config.settings import DATABASES, MIDDLEWARE

SITE = os.environ["SITE"]
ROOT_URLCONF = "site_urls"

if os.environ.get("PAGE"):
    # The whole page, through all of the project's middleware.
    ROOT_URLCONF = "config.urls"
elif SITE == "generated":
    MIDDLEWARE = [name for name in MIDDLEWARE if name.startswith("dbrouting.")]
else:
    MIDDLEWARE = []

if SITE != "generated":
    DATABASE_ROUTERS = []
    # No router, no middleware of the router's.
    MIDDLEWARE = [name for name in MIDDLEWARE if not name.startswith("dbrouting.")]
    DBROUTING = {"REPLICAS": []}
    SESSION_ENGINE = "django.contrib.sessions.backends.db"

OTHERS = {
    "django": {},
    # What the most used Django template generates.
    "template": {"CONN_MAX_AGE": 60, "ATOMIC_REQUESTS": True},
    "checked": {"CONN_MAX_AGE": None, "CONN_HEALTH_CHECKS": True},
    "unchecked": {"CONN_MAX_AGE": None},
    "nothing": {},
    "bare": {},
}
if SITE in OTHERS:
    kept = {name: DATABASES["default"][name] for name in ("NAME", "USER", "PASSWORD", "HOST", "PORT")}
    OPTIONS = {"sslmode": DATABASES["default"]["OPTIONS"]["sslmode"]}
    DATABASES = {"default": kept | {"ENGINE": "django.db.backends.postgresql", "OPTIONS": OPTIONS} | OTHERS[SITE]}
