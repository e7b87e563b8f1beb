"""Runs in the web container by `manage.py shell`: what Django and this project's commands say of themselves, as JSON."""

import json
from io import StringIO

from django.conf import settings
from django.core.management import call_command

SETTINGS = ("ENGINE", "CONN_MAX_AGE", "CONN_HEALTH_CHECKS", "DISABLE_SERVER_SIDE_CURSORS", "OPTIONS", "HOST", "NAME")


def said(*command, **options):
    output = StringIO()
    call_command(*command, stdout=output, stderr=output, **options)
    return output.getvalue()


report = {
    "databases": {alias: {name: entry[name] for name in SETTINGS} for alias, entry in settings.DATABASES.items()},
    "check": said("check", databases=list(settings.DATABASES), fail_level="INFO"),
    "budget": said("budget"),
    "topology": said("topology"),
    "slowqueries": said("slowqueries", limit=100, by="calls"),
}
print(json.dumps(report))
