"""Settings of Django's tests, with the databases as the generated project makes them from the same choices."""

import os
from pathlib import Path

from config.databases import connection_settings, database

name = os.environ["SUITE_NAME"]
if name == "plain":
    settings = {"ENGINE": "django.db.backends.postgresql", "OPTIONS": {}}
else:
    settings = connection_settings(
        os.environ["POOL_MODE"],
        os.environ["CONNECTION_STRATEGY"],
        os.environ["WEB_WORKER"],
        threads=4,
        prepared_statements=os.environ["PREPARED_STATEMENTS"] == "on",
    )
prefix = name.replace("-", "_")
DATABASES = {
    alias: database(f"postgresql://app@{os.environ['DB_HOST']}:5432/{prefix}_{alias}", Path("/run/secrets"), settings)
    for alias in ("default", "other")
}
TEST_RUNNER = "recorder.Runner"

# As in Django's own tests/test_sqlite.py.
SECRET_KEY = "django_tests_secret_key"
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
USE_TZ = False
