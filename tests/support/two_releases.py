"""A stack of two deployments, one of which runs the code of the previous release.

`python -m tests.support.two_releases SERVICE FOLDER` runs SERVICE from the previous release's
code in FOLDER, and everything else from this checkout: the servers, the roles, the migrations
and the other service. `./dev` finds the stack, and stops it.
"""

import io
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Final

import pytest

from stack.child import ProcessSpec
from stack.environment import Stack, stack_root
from stack.report import log_file
from stack.session import READY_SECONDS, Session
from stack.shapes import DIVIDED, Deployment
from stack.terminal import Output
from tests.support.stacks import RunningStack, own_stack
from tests.support.surroundings import CHECKOUT
from tests.support.waiting import eventually

FILE: Final = CHECKOUT / ".ci" / "previous-release.txt"  # <version> <commit>
# What the previous release's commands have in place of a part of this release's commands.
COMMANDS: Final = {
    "web": (("--config", "python:config.gunicorn"), ("--worker-class", "gthread")),
    "worker": (("accounts,lab",), ("accounts",)),
    "consumer": (("outbox", "consume"), ("consume",)),
}
# What this release needs beside the previous one; see docs/upgrades.md.
ACCEPTING: Final = {"TOKENS_WITHOUT_AUDIENCE": "on"}
# Variables of this release that the previous one doesn't know, or knows by another name.
RENAMED: Final = {"PLACEMENT_STATEMENT_TIMEOUT_SECONDS": "STATEMENT_TIMEOUT"}


class TwoReleases(Session):
    """Runs the deployment of one service from the previous release's code in a folder."""

    def __init__(self, *, service: str, folder: Path, root: Path) -> None:
        super().__init__(
            root=root, shape=DIVIDED, output=Output(log_file(root), only_notes=True), detached=True
        )
        self._service = service
        self._folder = folder

    def processes_of(self, deployment: Deployment, stack: Stack) -> list[ProcessSpec]:
        found = super().processes_of(deployment, stack)
        if deployment.service != self._service:
            return [replace(spec, environment={**spec.environment, **ACCEPTING}) for spec in found]
        return [self._of_previous_release(spec, stack) for spec in found]

    def _of_previous_release(self, spec: ProcessSpec, stack: Stack) -> ProcessSpec:
        environment = {RENAMED.get(name, name): spec.environment[name] for name in spec.environment}
        # Every process of 0.2.0 is the stream server's administrator.
        streams = stack.addresses.streams_url
        environment |= {"STREAMS_URL": streams, "BROKER_URL": streams.removesuffix("/0") + "/1"}
        kind = spec.name.rpartition("-")[2]
        return replace(
            spec,
            command=_replaced(spec.command, *COMMANDS.get(kind, ((), ()))),
            environment=environment,
            directory=self._folder,
        )


def _replaced(
    command: tuple[str, ...], old: tuple[str, ...], new: tuple[str, ...]
) -> tuple[str, ...]:
    for at in range(len(command)):
        if old and command[at : at + len(old)] == old:
            return (*command[:at], *new, *command[at + len(old) :])
    return command


@contextmanager
def two_releases(*, previous: str, folder: Path) -> Iterator[RunningStack]:
    """A stack of its own in which the service `previous` runs the previous release's code, which
    is put into `folder`. Skips the test if this clone doesn't have that release."""
    put_previous_release(folder)
    with own_stack() as stack:
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.two_releases", previous, str(folder)],
            cwd=CHECKOUT,
            env=stack.environment,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )

        def is_ready() -> bool:
            assert process.poll() is None, f"the stack ended; see {stack.log}"
            return (stack.root / "run.json").exists() and stack.status()["state"] == "ready"

        try:
            eventually(is_ready, within_seconds=READY_SECONDS, what=f"{stack} is ready")
            yield stack
        finally:
            stack.down()
            process.wait(60)


def put_previous_release(folder: Path) -> str:
    """Extract the previous release's code into this folder. Returns the release's version."""
    version, commit = FILE.read_text().split()
    git = ["git", "-C", str(CHECKOUT)]
    is_here = subprocess.run(
        [*git, "cat-file", "-e", f"{commit}^{{commit}}"], capture_output=True, check=False
    )
    if is_here.returncode:
        pytest.skip(f"this clone doesn't have {version} ({commit:.12}): `git fetch --unshallow`")
    archive = subprocess.run([*git, "archive", commit], capture_output=True, check=True)
    with tarfile.open(fileobj=io.BytesIO(archive.stdout)) as opened:
        opened.extractall(folder, filter="data")
    return version


if __name__ == "__main__":
    session = TwoReleases(service=sys.argv[1], folder=Path(sys.argv[2]), root=stack_root())
    session.acquire_lock()
    session.run()
