from typing import Any

from django.conf import settings
from django.http import HttpRequest

from dbrouting.context import current_context


def site(request: HttpRequest) -> dict[str, Any]:
    """What every page shows of the site itself: its name, and in its footer which databases have answered."""
    return {"SITE_NAME": settings.SITE_NAME, "routing": current_context() if settings.SHOW_ROUTING else None}
