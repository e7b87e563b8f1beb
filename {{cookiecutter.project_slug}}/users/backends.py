from typing import Any

from django.contrib.auth import get_user_model
from django.contrib.auth.backends import ModelBackend
from django.http import HttpRequest


class EmailOrUsername(ModelBackend):
    """Both log in. An address counts before a name that looks like it, so nobody can take it as his name."""

    def authenticate(
        self, request: HttpRequest | None, username: str | None = None, password: str | None = None, **kwargs: Any
    ) -> Any:
        if username and "@" in username:
            user = get_user_model().objects.filter(email__iexact=username).first()
            username = username if user is None else user.get_username()
        return super().authenticate(request, username, password, **kwargs)
