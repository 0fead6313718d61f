"""`python -m stack` with real servers and trivial processes instead of the application."""

import sys
from pathlib import Path

from stack import applications
from stack.__main__ import main
from stack.child import ProcessSpec, alive_for


def process(name: str) -> ProcessSpec:
    return ProcessSpec(
        name=name,
        command=("/bin/sh", "-c", f"echo {name} is up; exec sleep 600"),
        environment={"PATH": "/usr/bin:/bin"},
        directory=Path("/"),
        ready=alive_for(0.0),
    )


def once(name: str) -> ProcessSpec:
    return ProcessSpec(
        name=name,
        command=("/bin/true",),
        environment={},
        directory=Path("/"),
        ready=alive_for(0.0),
    )


applications.processes_of = lambda deployment, **_: [  # type: ignore[assignment]
    process(deployment.web),
    process(f"{deployment.prefix}worker"),
]
applications.preparation_of = lambda *_, **__: once("prepare")  # type: ignore[assignment]

if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
