"""Settings, routes and HTTP conventions of every process, for each choice of services.

No service imports this package; Django and Celery load it by dotted path.
"""

from config.celery import app as celery_app

__all__ = ["celery_app"]
