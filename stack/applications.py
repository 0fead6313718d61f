"""The processes of a deployment."""

from collections.abc import Mapping
from typing import Final

from .child import Answers, ProcessSpec, Ready, stays
from .environment import CHECKOUT, PYTHON, for_process
from .shapes import Deployment

WEB_WORKERS: Final = 2  # processes; the development machine has few cores
WEB_THREADS: Final = 4  # in each
WORKER_THREADS: Final = 8  # a relay per service lingers in one, the rest is for tasks
_SETTLED_SECONDS: Final = 1.0
# Who puts work in goes first, who takes it out last.
_FIRST, _LAST = 1, 2


def processes_of(
    deployment: Deployment, *, url: str, variables: Mapping[str, str]
) -> list[ProcessSpec]:
    """Its web server, worker, beat and consumer; `url` is where the web server shall listen."""

    def process(kind: str, *command: str, ready: Ready, wave: int) -> ProcessSpec:
        return ProcessSpec(
            name=f"{deployment.prefix}{kind}",
            command=(PYTHON, *command),
            environment=for_process(variables, kind=kind),
            directory=CHECKOUT,
            ready=ready,
            stops_in_wave=wave,
        )

    settled = stays(_SETTLED_SECONDS)
    name = f"{deployment.prefix}worker@%h"
    return [
        process("web", *_gunicorn(url), ready=Answers(f"{url}/healthz/ready"), wave=_FIRST),
        process("worker", *_worker(deployment, name), ready=settled, wave=_LAST),
        process("beat", *_beat(), ready=settled, wave=_FIRST),
        process("consumer", "manage.py", "outbox", "consume", ready=settled, wave=_LAST),
    ]


def preparation_of(
    deployment: Deployment, *, email: str, password_file: str, variables: Mapping[str, str]
) -> ProcessSpec:
    """What must run to its end before the processes start: migrations, the first people."""
    return ProcessSpec(
        name=f"{deployment.prefix}prepare",
        command=(PYTHON, "-m", "config.prepare", email, password_file),
        environment=for_process(variables, kind="prepare"),
        directory=CHECKOUT,
        ready=stays(0.0),
    )


def _gunicorn(url: str) -> tuple[str, ...]:
    return (
        *("-m", "gunicorn", "config.wsgi:application", "--bind", url.removeprefix("http://")),
        *("--worker-class", "gthread", "--workers", str(WEB_WORKERS), "--preload"),
        *("--threads", str(WEB_THREADS), "--graceful-timeout", "5", "--no-control-socket"),
        *("--access-logfile", "-", "--access-logformat", "%(m)s %(U)s %(s)s %(M)s ms"),
    )


def _worker(deployment: Deployment, name: str) -> tuple[str, ...]:
    return (
        # Of no use here: only JSON is accepted from the broker, and the broker is our own.
        *("-W", "ignore:You're running the worker with superuser"),
        *("-m", "celery", "--quiet", "--app", "config", "worker", "--hostname", name),
        *("--pool", "threads", "--concurrency", str(WORKER_THREADS)),
        *("--queues", ",".join(deployment.services), "--without-mingle", "--without-gossip"),
    )


def _beat() -> tuple[str, ...]:
    # The plain scheduler: its table is code, so there is no file to keep.
    return (
        *("-m", "celery", "--quiet", "--app", "config"),
        *("beat", "--scheduler", "celery.beat:Scheduler"),
    )
