"""The status and the addresses of a run."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final

from .credentials import ADMIN_EMAIL, Credentials
from .environment import Stack, web_ports
from .errors import StackError
from .moving import on_own_server
from .runfile import Run, leftovers, read_run
from .servers import Servers
from .shapes import DIVIDED, MONOLITH, SERVICES, SHAPES, Deployment

PAGES: Final = {"front": "/", "flow": "/flow/", "docs": "/api/docs/", "admin": "/admin/"}


def known_stack(root: Path) -> Stack:
    """Read the stack from its files, whether it runs or not. Servers that never ran have port 0."""
    servers = Servers(root)
    servers.arrange(own=on_own_server(root))
    ports = web_ports(root)
    return Stack(
        root=root,
        addresses=servers.addresses,
        credentials=Credentials.of(root),
        web_ports={d.web: ports.known(d.web) for shape in SHAPES.values() for d in shape},
    )


def running(root: Path) -> Run:
    """Return the current run of this root. Raises StackError when the stack is down."""
    run = read_run(root)
    if run is not None and run.is_alive:
        return run
    if left := leftovers(root):
        processes = ", ".join(f"{name} ({pid})" for name, pid in left.items())
        raise StackError(
            f"the supervisor was killed and left {processes}; ./dev down stops them,"
            " ./dev up starts the stack again"
        )
    raise StackError("the stack is down; ./dev up starts it")


def status(root: Path) -> dict[str, Any]:
    """Return the object of `./dev status --json`. Raises StackError when the stack is down."""
    run = running(root)
    stack = known_stack(root)
    deployments = SHAPES[run.shape]
    return {
        "shape": MONOLITH if run.shape == MONOLITH else DIVIDED,
        "state": run.state,
        "urls": stack.urls(deployments),
        "processes": [
            {
                "name": process.name,
                "pid": process.pid,
                "state": process.state,
                "failures": process.failures,
                "reason": process.reason,
            }
            for process in run.processes
        ],
        "databases": {
            name: {"primary": stack.primary(name), "replicas": stack.replicas(name)}
            for name in SERVICES
        },
        "streams": stack.addresses.streams_url,
        "ring": list(stack.addresses.ring_urls),
        "admin": {"email": ADMIN_EMAIL, "password": stack.credentials.admin_password},
    }


def status_text(root: Path) -> str:
    """Return the status as text for a terminal."""
    run = running(root)
    width = max((len(process.name) for process in run.processes), default=0)
    rows = [
        f"  {process.name:<{width}}  {process.pid or '-':>7}  {process}"
        for process in run.processes
    ]
    state = "up" if run.is_up else run.state
    note = " (degraded)" if run.state == "degraded" else ""
    title = f"The stack is {state} as {run.shape}{note}, supervised by {run.supervisor.pid}."
    addresses = welcome(known_stack(root), SHAPES[run.shape], log_file(root))
    return "\n".join([title, "", *rows, addresses])


def welcome(stack: Stack, deployments: tuple[Deployment, ...], log: Path) -> str:
    """Return the addresses, the administrator's login and the log file as text."""
    urls = stack.urls(deployments)
    rows = [
        ("users", f"{urls['accounts']}/api/users/"),
        ("orders", f"{urls['orders']}/api/orders/"),
        ("lab", f"{urls['accounts']}/lab/"),
        *pages(stack, deployments, *PAGES),
        log_in(stack),
        ("log", str(log)),
    ]
    return f"\n{table(rows)}\n"


def pages(
    stack: Stack, deployments: tuple[Deployment, ...], *names: str
) -> Iterator[tuple[str, str]]:
    """Yield the name and the address of these pages in each deployment."""
    for deployment in deployments:
        for name in names:
            yield f"{deployment.prefix}{name}", f"{stack.url(deployment)}{PAGES[name]}"


def log_in(stack: Stack) -> tuple[str, str]:
    return "log in as", f"{ADMIN_EMAIL}  {stack.credentials.admin_password}"


def table(rows: Iterable[tuple[str, str]]) -> str:
    return "\n".join(f"  {name:<14}  {where}" for name, where in rows)


def log_file(root: Path) -> Path:
    return root / "log" / "dev.log"
