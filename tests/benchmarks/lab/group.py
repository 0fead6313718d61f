"""Several client processes, which work at the same time."""

import json
import subprocess
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as Late
from typing import Any

from tests.benchmarks.ground import Ground

PROCESSES = 2
START_SECONDS = 0.1  # from the question to the common start
LONGEST_SECONDS = 120.0  # in addition to the time that the question names


class Group:
    """The client processes of one environment. Start the next question after the answer."""

    def __init__(self, ground: Ground, name: str, environment: Mapping[str, str]) -> None:
        self._ground = ground
        self._name = name
        self._processes: list[subprocess.Popen[Any]] = [
            ground.spawn(
                f"{name}-{number}",
                environment,
                *("-m", f"{__package__}.clients", str(number), str(PROCESSES)),
                piped=True,
            )
            for number in range(PROCESSES)
        ]

    def ask(self, do: str, *, seconds: float = 0.0, **question: Any) -> list[Any]:
        """Sends the question to all processes. Returns an answer of each.

        `seconds` is how long the work takes. Raises RuntimeError if a process fails or hangs.
        """
        line = json.dumps({"do": do, **question}) + "\n"
        with ThreadPoolExecutor(PROCESSES) as pool:
            asked = [pool.submit(_ask, process, line) for process in self._processes]
            try:
                answers = [one.result(seconds + LONGEST_SECONDS) for one in asked]
            except Late:
                self.end()  # also ends the waiting threads
                raise RuntimeError(f"{self._name}: no answer to {do} in time") from None
        if not all(answers):
            raise RuntimeError(f"{self._name}: a client process failed; see its log")
        return [json.loads(answer) for answer in answers]

    def begin_soon(self) -> float:
        """A moment in the near future, in the seconds of the machine's monotonic clock."""
        return time.monotonic() + START_SECONDS

    def end(self) -> None:
        self._ground.end(*self._processes)


def _ask(process: "subprocess.Popen[Any]", line: str) -> str:
    assert process.stdin
    assert process.stdout
    try:
        process.stdin.write(line)
        process.stdin.flush()
    except OSError:
        return ""
    return str(process.stdout.readline())
