"""The commands that start the processes of a deployment."""

import socket
from collections.abc import Mapping
from typing import Final

from .child import HttpReady, ProcessSpec, Ready, alive_for
from .environment import CHECKOUT, PYTHON, for_process
from .shapes import Deployment

WEB_WORKERS: Final = 2  # processes; few, because a development machine has few cores
WEB_THREADS: Final = 4  # per web worker
WORKER_THREADS: Final = 8  # the relay of each service occupies one thread
_SETTLED_SECONDS: Final = 1.0
# Processes that produce work stop first; processes that consume work stop last.
_FIRST, _LAST = 1, 2


def processes_of(
    deployment: Deployment, *, listener: socket.socket, variables: Mapping[str, str]
) -> list[ProcessSpec]:
    """Return the deployment's web server (which accepts from `listener`), worker, beat, consumer.

    The caller keeps `listener` open until the web server has started.
    """

    def process(
        kind: str, *command: str, ready: Ready, wave: int, inherits: tuple[int, ...] = ()
    ) -> ProcessSpec:
        return ProcessSpec(
            name=f"{deployment.prefix}{kind}",
            command=(PYTHON, *command),
            environment=for_process(variables, kind=kind),
            directory=CHECKOUT,
            ready=ready,
            inherits=inherits,
            stops_in_wave=wave,
        )

    settled = alive_for(_SETTLED_SECONDS)
    return [
        process(
            "web",
            *_gunicorn(listener),
            ready=HttpReady(listener, "/healthz/ready"),
            wave=_FIRST,
            inherits=(listener.fileno(),),
        ),
        process("worker", *_worker(deployment), ready=settled, wave=_LAST),
        process("beat", *_beat(), ready=settled, wave=_FIRST),
        process("consumer", "manage.py", "outbox", "consume", ready=settled, wave=_LAST),
    ]


def preparation_of(
    deployment: Deployment, *, email: str, password_file: str, variables: Mapping[str, str]
) -> ProcessSpec:
    """The process that migrates and creates staff accounts. It must end before the others start."""
    return ProcessSpec(
        name=f"{deployment.prefix}prepare",
        command=(PYTHON, "-m", "config.prepare", email, password_file),
        environment=for_process(variables, kind="prepare"),
        directory=CHECKOUT,
        ready=alive_for(0.0),
    )


def restamp_of(deployment: Deployment, *, label: str, variables: Mapping[str, str]) -> ProcessSpec:
    """The process that prepares a restored outbox. It must end before the others start."""
    return ProcessSpec(
        name=f"{label}-restamp",
        command=(PYTHON, "manage.py", "outbox", "restamp", label),
        environment=for_process(variables, kind="prepare"),
        directory=CHECKOUT,
        ready=alive_for(0.0),
    )


def _gunicorn(listener: socket.socket) -> tuple[str, ...]:
    return (
        *("-m", "gunicorn", "config.wsgi:application", "--bind", f"fd://{listener.fileno()}"),
        *("--config", "python:config.gunicorn", "--preload", "--no-control-socket"),
        *("--workers", str(WEB_WORKERS), "--threads", str(WEB_THREADS), "--graceful-timeout", "5"),
    )


def _worker(deployment: Deployment) -> tuple[str, ...]:
    queues = (*deployment.services, "lab") if deployment.has_lab else deployment.services
    return (
        # Celery's warning doesn't apply: the broker is private, and workers accept only JSON.
        *("-W", "ignore:You're running the worker with superuser"),
        *("-m", "celery", "--quiet", "--app", "config", "worker"),
        *("--hostname", f"{deployment.prefix}worker@%h"),
        *("--pool", "threads", "--concurrency", str(WORKER_THREADS)),
        *("--queues", ",".join(queues), "--without-mingle", "--without-gossip"),
    )


def _beat() -> tuple[str, ...]:
    # This scheduler writes no file: the schedule is in the code.
    return (
        *("-m", "celery", "--quiet", "--app", "config"),
        *("beat", "--scheduler", "celery.beat:Scheduler"),
    )
