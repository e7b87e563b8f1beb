from typing import Any

import pytest
from django.conf import settings


@pytest.fixture
def parameters() -> dict[str, Any]:
    """For psycopg: how `default` is reached."""
    entry = settings.DATABASES["default"]
    names = {"host": "HOST", "port": "PORT", "user": "USER", "password": "PASSWORD", "dbname": "NAME"}
    return {**{keyword: entry[name] for keyword, name in names.items()}, "autocommit": True}
