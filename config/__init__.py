"""Placement: which services this process is, where their data lives, who may call.

Nobody imports this package; Django and Celery reach it by dotted path.
"""

from config.celery import app as celery_app

__all__ = ["celery_app"]
