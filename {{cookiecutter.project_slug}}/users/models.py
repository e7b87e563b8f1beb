from django.contrib.auth.models import AbstractUser
from django.db import models
from django.db.models.functions import Lower


class User(AbstractUser):
    """Who logs in. It has Django's fields, and is yours to extend: add a field, then `manage.py makemigrations`.

    To exchange the user model later is hard (https://docs.djangoproject.com/en/stable/topics/auth/customizing/).
    """

    class Meta(AbstractUser.Meta):
        constraints = [
            # Nobody else can have it in other letters. Users without an address are no duplicates.
            models.UniqueConstraint(
                Lower("email"),
                condition=~models.Q(email=""),
                name="users_user_email",
                violation_error_message="A user with that email address already exists.",
            )
        ]
