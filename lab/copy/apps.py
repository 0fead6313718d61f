from django.apps import AppConfig


class CopyConfig(AppConfig):
    name = "lab.copy"
    label = "lab_copy"
    verbose_name = "lab: the copy"
