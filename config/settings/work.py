"""The outbox and Celery."""

from kombu import Queue

from config.environ import environment

_env = environment()

OUTBOX_STREAMS_URL = _env.streams_url
OUTBOX_PARTITIONS = _env.outbox_partitions
OUTBOX_RETENTION_SECONDS = _env.outbox_retention_seconds

CELERY_BROKER_URL = _env.broker_url
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_BROKER_TRANSPORT_OPTIONS = {
    "socket_connect_timeout": 1,  # seconds: a dead broker is detected at once
    "socket_keepalive": True,
}
CELERY_TASK_PUBLISH_RETRY = False  # beat sends the task again a second later
CELERY_TASK_QUEUES = [Queue(service) for service in _env.services]
CELERY_TASK_DEFAULT_QUEUE = _env.services[0]
CELERY_TASK_ROUTES = {f"{service}.*": {"queue": service} for service in _env.services}

# JSON only: with pickle, write access to the queue would allow code execution.
CELERY_ACCEPT_CONTENT = ["json"]
CELERY_TASK_SERIALIZER = "json"
CELERY_RESULT_SERIALIZER = "json"
CELERY_EVENT_SERIALIZER = "json"
CELERY_TASK_IGNORE_RESULT = True

# One task per slot, acknowledged at its start: beat sends a periodic task that died again, and a
# prefetched task would wait behind a relay.
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
CELERY_TASK_ACKS_LATE = False
CELERY_WORKER_CANCEL_LONG_RUNNING_TASKS_ON_CONNECTION_LOSS = False

CELERY_TIMEZONE = "UTC"  # Celery's default would log other times
CELERY_ENABLE_UTC = True
# Celery's default scheduler keeps a shelve, which is pickle. The schedule is code (config.celery)
# and has no state to keep.
CELERY_BEAT_SCHEDULER = "celery.beat:Scheduler"
