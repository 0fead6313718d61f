"""Settings of the outbox and of Celery."""

from kombu import Queue

from config.environ import SERVICES as ALL_SERVICES
from config.environ import environment
from config.settings.applications import APPLICATIONS

_env = environment()

OUTBOX_STREAMS_URL = _env.streams_url
OUTBOX_PARTITIONS = _env.outbox_partitions
OUTBOX_RETENTION_SECONDS = _env.outbox_retention_seconds
OUTBOX_HANDLER_IDLE_SECONDS = _env.outbox_handler_idle_seconds
OUTBOX_PROGRESS_FOLDER = _env.progress_folder
OUTBOX_PRODUCERS = ALL_SERVICES  # consumers also read the events of other deployments

CELERY_BROKER_URL = _env.broker_url
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
# A deployment's broker user may use only the keys and channels with this prefix.
CELERY_BROKER_TRANSPORT_OPTIONS = {
    "global_keyprefix": f"broker:{_env.service}:",
    "socket_connect_timeout": 1,  # seconds, so that a dead broker is detected quickly
    "socket_keepalive": True,
}
CELERY_TASK_PUBLISH_RETRY = False  # beat sends the task again a second later
CELERY_TASK_QUEUES = [Queue(application) for application in APPLICATIONS]
CELERY_TASK_DEFAULT_QUEUE = _env.services[0]
CELERY_TASK_ROUTES = {f"{service}.*": {"queue": service} for service in _env.services}

# JSON only: with pickle, write access to the queue would allow code execution.
CELERY_ACCEPT_CONTENT = ["json"]
CELERY_TASK_SERIALIZER = "json"
CELERY_RESULT_SERIALIZER = "json"
CELERY_EVENT_SERIALIZER = "json"
CELERY_TASK_IGNORE_RESULT = True
# Otherwise a message could stop a worker, or change what it runs. Nothing here sends such messages.
CELERY_WORKER_ENABLE_REMOTE_CONTROL = False

# A worker takes one task per thread and acknowledges it at the start. After a crash, beat sends a
# periodic task again. A prefetched task would wait until a relay ends.
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
CELERY_TASK_ACKS_LATE = False
CELERY_WORKER_CANCEL_LONG_RUNNING_TASKS_ON_CONNECTION_LOSS = False

CELERY_TIMEZONE = "UTC"  # with Celery's default, logs would have other times
CELERY_ENABLE_UTC = True
# Celery's default scheduler stores its state in a pickle file. Here the schedule is in the code
# (config.celery) and has no state.
CELERY_BEAT_SCHEDULER = "config.beat:Scheduler"
