from django.apps import AppConfig


class DbRoutingConfig(AppConfig):
    name = "dbrouting"
