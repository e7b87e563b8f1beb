from django.conf import settings
from django.http import HttpRequest


def site(request: HttpRequest) -> dict[str, str]:
    """What every page shows of the site itself."""
    return {"SITE_NAME": settings.SITE_NAME}
