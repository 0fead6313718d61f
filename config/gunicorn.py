"""The settings of gunicorn in every deployment: `gunicorn --config python:config.gunicorn`."""

from collections.abc import Iterable, Mapping
from datetime import timedelta
from ipaddress import ip_address
from typing import Any
from urllib.parse import unquote

from django.conf import settings
from gunicorn import glogging

from config.deadlines import Worker
from config.environ import environment
from config.logs import formatter

worker_class = Worker
# gunicorn would believe X-Forwarded-Proto and SCRIPT_NAME from every process of this machine.
# Django reads X-Forwarded-Proto itself, if PROXIES says that a proxy sets it.
forwarded_allow_ips = ""
sendfile = False  # the deadline of a response is in TimedSocket.sendall
accesslog = "-"


class Logger(glogging.Logger):  # type: ignore[misc] # gunicorn has no types
    """Formats gunicorn's lines like all others: a path may contain an address or a line break."""

    def _set_handler(self, log: Any, output: Any, fmt: Any, stream: Any = None) -> None:
        super()._set_handler(log, output, formatter(), stream)

    def access(self, resp: Any, req: Any, environ: Any, request_time: timedelta) -> None:
        """Log the request without its query and the client's address. An error here must not keep
        gunicorn from its answer, 400 or 500, which it sends after this line."""
        try:
            fields = {
                "method": environ["REQUEST_METHOD"],
                "path": _path(environ),
                "status": int(str(resp.status).split()[0]),
                "ms": round(request_time.total_seconds() * 1000),
            }
            extra = {"fields": fields, "environ": environ}
            self.access_log.info("%s %s %s %s ms", *fields.values(), extra=extra)
        except Exception:  # noqa: BLE001 - the answer is worth more than its line
            self.exception("a request has no access line")


def _path(environ: Mapping[str, Any]) -> str:
    """The path of the request. gunicorn parses none if it refuses the request or answers 500. WSGI
    represents each byte as one character (PEP 3333)."""
    if "PATH_INFO" in environ:
        path = str(environ["PATH_INFO"])
    else:
        path = unquote(str(environ["RAW_URI"]).partition("?")[0], "latin-1")
    return path.encode("latin-1").decode("utf-8", "replace")


logger_class = Logger


def when_ready(server: Any) -> None:
    """Refuse to serve other machines with DEBUG on: the pages of errors show code and settings.
    Then fetch the keys of accounts, so that all workers start with them, also replaced ones."""
    names = [listener.getsockname() for listener in server.LISTENERS]
    if environment().debug and (public := list(_public(names))):
        raise RuntimeError(f"DEBUG is on: listen on 127.0.0.1 instead of {', '.join(public)}")
    _fetch_keys()


def post_fork(server: Any, worker: Any) -> None:
    """Forget the keys that the master fetched, unless they are new: it fetches them only at its
    start, and accounts may have dropped one since. The worker reads them again when it needs them,
    from accounts or from the copy."""
    from config.keys import key_set

    if key_set.cache_info().currsize and key_set().is_old():
        key_set.cache_clear()


def _fetch_keys() -> None:
    from django.apps import apps
    from django.db import connections

    from config.keys import key_set

    if settings.JWKS_SOURCE and apps.ready:  # without --preload, each worker loads the application
        key_set().state()
        connections.close_all()  # workers must not share the connection


def _public(names: Iterable[Any]) -> Iterable[str]:
    """The addresses that other machines can reach. The name of a Unix socket is a text."""
    for name in names:
        if isinstance(name, tuple) and not ip_address(name[0].partition("%")[0]).is_loopback:
            yield name[0]
