from django.apps import AppConfig


class LoginsConfig(AppConfig):
    name = "config.logins"
    verbose_name = "Log-ins"
