from django.apps import AppConfig


class ArticlesConfig(AppConfig):
    """The example app: something to read, something to write, and a look at which database did it."""

    name = "articles"
    # Django 5.2 and 6.1 differ in their default: named here, both write the same migration.
    default_auto_field = "django.db.models.BigAutoField"
