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
    "socket_connect_timeout": 1,  # seconds: a dead broker is found out at once
    "socket_keepalive": True,
}
CELERY_TASK_PUBLISH_RETRY = False  # beat asks again in a second anyway
CELERY_TASK_QUEUES = [Queue(service) for service in _env.services]
CELERY_TASK_DEFAULT_QUEUE = _env.services[0]
CELERY_TASK_ROUTES = {f"{service}.*": {"queue": service} for service in _env.services}

# JSON only: a pickle in a queue is code execution for whoever can write there.
CELERY_ACCEPT_CONTENT = ["json"]
CELERY_TASK_SERIALIZER = "json"
CELERY_RESULT_SERIALIZER = "json"
CELERY_EVENT_SERIALIZER = "json"
CELERY_TASK_IGNORE_RESULT = True

# One task per slot, acknowledged at its start: a periodic task that dies is started again by
# the next tick of beat, and one that waited behind a relay would only be late.
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
CELERY_TASK_ACKS_LATE = False
CELERY_WORKER_CANCEL_LONG_RUNNING_TASKS_ON_CONNECTION_LOSS = False

CELERY_TIMEZONE = "UTC"  # Celery's own default would write other times into the logs
CELERY_ENABLE_UTC = True
# Celery's default keeps a shelve, which is pickle; the table is code (config.celery), and
# nothing in it needs to survive a restart.
CELERY_BEAT_SCHEDULER = "celery.beat:Scheduler"
