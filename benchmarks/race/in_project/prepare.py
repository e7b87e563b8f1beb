"""Makes the people of the race, and prints the session keys of those who have been logged in for long."""

import sys

import django

django.setup()

from django.conf import settings  # noqa: E402
from django.contrib.auth import get_user_model  # noqa: E402
from django.test import Client  # noqa: E402

for number in range(int(sys.argv[1])):
    user = get_user_model().objects.create_superuser(f"visitor-{number}", password="race")
    client = Client()
    client.force_login(user)
    print(client.cookies[settings.SESSION_COOKIE_NAME].value)
