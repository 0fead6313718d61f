"""`./dev walk`: runs the walk of README.md on the running stack, and checks what it prints."""

import shlex
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import IO, Final, cast

from . import console
from .console import Command
from .environment import CHECKOUT, inherited
from .errors import StackError
from .ports import LOOPBACK
from .show.stage import Stage
from .terminal import heading, show, wrapped

README: Final = CHECKOUT / "README.md"
TITLE: Final = "A walk with curl"
ORDERS: Final = ("TEA", "PIANO")  # the walk's variables that contain the id of an order
_MARK: Final = "\036"  # comes before the exit status of a command


class Failed(StackError):
    """A command failed, or printed something else than the page shows."""


def run(root: Path) -> int:
    """Return the exit status. Raises StackError if the stack is down, curl is missing, or a command
    fails."""
    stage = Stage(root)
    if shutil.which("curl") is None:
        raise StackError("./dev walk needs curl, which is not on the PATH")
    steps = list(console.steps(console.section(README.read_text(encoding="utf-8"), TITLE)))
    # A proxy doesn't know the addresses of this machine.
    variables = {"ACCOUNTS": stage.urls["accounts"], "ORDERS": stage.urls["orders"]}
    try:
        with shell(**variables, no_proxy=LOOPBACK) as sh:
            show(heading(f"{TITLE} (README.md)"))
            show("\n".join(f"{name}={value}" for name, value in variables.items()))
            for previous, step in pairwise(["", *steps]):
                if isinstance(previous, str) or isinstance(step, str):
                    show("")
                if isinstance(step, str):
                    show(wrapped(step))
                else:
                    check(sh, step)
            orders = {name.lower(): "".join(sh.run(f'echo "${name}"')) for name in ORDERS}
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    show(f"\n{heading('The walk has left two orders. Log in as staff to see their stories.')}\n")
    show(stage.links(orders))
    return 0


class Shell:
    """A POSIX shell: variables and functions of one command are known to the next ones."""

    def __init__(self, *, stdin: IO[str], stdout: IO[str]) -> None:
        self._stdin, self._stdout = stdin, stdout
        self.status = 0  # of the last command

    def run(self, script: str) -> Iterator[str]:
        """Run a command and yield the lines that it prints, as they come. Raises Failed if the
        shell ends."""
        # With `eval`, an open quote is an error. Without it, the shell would wait for the rest.
        self._stdin.write(f"eval {shlex.quote(script)} </dev/null\n")
        self._stdin.write(f"printf '\\{ord(_MARK):03o}%d\\n' $?\n")
        self._stdin.flush()
        for line in self._stdout:
            text, mark, status = line.rstrip("\n").partition(_MARK)
            if text or not mark:
                yield text
            if mark:
                self.status = int(status)
                return
        raise Failed(f"walk: the shell ended at: {_named(script)}")


@contextmanager
def shell(**variables: str) -> Iterator[Shell]:
    """Start a shell with these environment variables, and end it at the end of the block."""
    with subprocess.Popen(
        ["/bin/sh"],
        cwd=CHECKOUT,
        env=inherited(**variables),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        try:
            yield Shell(stdin=cast(IO[str], process.stdin), stdout=cast(IO[str], process.stdout))
        finally:
            process.kill()


def check(sh: Shell, command: Command) -> None:
    """Run the command as a person sees it. Raises Failed unless it prints what the page shows."""
    show(heading(command.typed))
    printed = []
    for line in sh.run(command.script):
        show(line)
        printed.append(line)
    if sh.status:
        raise Failed(f"walk: status {sh.status} of: {_named(command.script)}")
    if printed != list(command.output):
        shown = _quoted(command.output)
        raise Failed(
            f"walk: README.md shows {shown}, not {_quoted(printed)}: {_named(command.script)}"
        )


def _named(script: str) -> str:
    return script.partition("\n")[0]


def _quoted(lines: list[str] | tuple[str, ...]) -> str:
    return repr("\n".join(lines)) if lines else "no output"
