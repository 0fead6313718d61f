"""A process with many clients. It reads questions from standard input, one JSON object a line, and
writes an answer for each, until the input ends.

`tests.benchmarks.lab.group` starts several of these processes. A question names the case, and the
share of the work of this process.
"""

import json
import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import cycle
from typing import TYPE_CHECKING, Any

from tests.benchmarks.clock import pause
from tests.benchmarks.lab.cases import user_id
from tests.benchmarks.lab.workload import Operation, Workload, by_thread, of_process

if TYPE_CHECKING:
    from tests.benchmarks.lab.client import Client

THREADS = 4
VISIT_LIFE_SECONDS = 600.0  # longer than the visits: an expired value would count as a moved one


class Process:
    """The clients of this process. Its threads keep their connections between the questions."""

    def __init__(self, number: int, processes: int) -> None:
        self.number, self.processes = number, processes
        self._pool = ThreadPoolExecutor(THREADS)

    def answer(self, question: dict[str, Any]) -> Any:
        do: Callable[..., Any] = getattr(self, question.pop("do"))
        return do(**question)

    def create(self, *, case: dict[str, Any], users: int) -> int:
        """Creates this process's share of the users. Returns their number."""
        mine = range(self.number, users, self.processes)

        def work(numbers: range) -> int:
            client = _client(case)
            for number in numbers:
                client.create(user_id(number), f"Customer {number}")
            return len(numbers)

        return sum(self._pool.map(work, [mine[thread::THREADS] for thread in range(THREADS)]))

    def visit(self, *, case: dict[str, Any], users: int) -> dict[str, int]:
        """Reads this process's share of the users once. Returns the reads by server."""
        mine = range(self.number, users, self.processes)

        def work(numbers: range) -> Counter[str]:
            client = _client(case, life_seconds=VISIT_LIFE_SECONDS)
            return Counter(client.read(user_id(number)).served_by for number in numbers)

        parts = self._pool.map(work, [mine[thread::THREADS] for thread in range(THREADS)])
        return dict(sum(parts, Counter[str]()))

    def pace(
        self, *, case: dict[str, Any], workload: dict[str, Any], begin: float
    ) -> dict[str, Any]:
        """Runs this process's share of the operations, each when it is due after `begin`.

        Returns `answers`, the fields of an observation.Answer each; `latencies` in seconds,
        counted from the time when the operation was due and its client was free; and `failures`:
        when each was sent, when it failed, whether it was a write, and the error."""
        parts = self._parts(workload)
        runs = list(self._pool.map(lambda operations: _pace(operations, case, begin), parts))
        return {
            name: [each for run in runs for each in run[name]]
            for name in ("answers", "latencies", "failures")
        }

    def saturate(
        self, *, case: dict[str, Any], workload: dict[str, Any], for_seconds: float
    ) -> dict[str, int]:
        """Runs operations as fast as possible. Returns the number of answers and failures."""
        until = time.monotonic() + for_seconds
        parts = self._parts(workload)
        runs = list(self._pool.map(lambda operations: _saturate(operations, case, until), parts))
        return {name: sum(run[name] for run in runs) for name in ("answered", "failed")}

    def crowd(
        self, *, case: dict[str, Any], number: int, readers: int, begin: float
    ) -> dict[str, int]:
        """Lets `readers` clients read one user at the same time. Returns the reads by server."""

        def work(_: int) -> str:
            client = _client(case)
            _wait_until(begin)
            return client.read(user_id(number)).served_by

        with ThreadPoolExecutor(readers) as pool:
            return dict(Counter(pool.map(_closing(work), range(readers))))

    def rename(self, *, case: dict[str, Any], number: int) -> int:
        """Changes one user, in the first process. Returns the new version, or 0."""
        if self.number:
            return 0
        renamed = self._pool.submit(
            lambda: _client(case).write(user_id(number), f"Renamed at {time.monotonic()}").version
        )
        return renamed.result()

    def lengthen(self, *, case: dict[str, Any], number: int, versions: int) -> int:
        """Creates a user and writes it until it has this version, in the first process."""

        def work() -> int:
            client = _client(case)
            version = client.create(user_id(number), "Customer").version
            while version < versions:
                version = client.write(user_id(number), f"Customer at {version}").version
            return version

        return 0 if self.number else self._pool.submit(work).result()

    def time_reads(self, *, case: dict[str, Any], number: int, reads: int) -> list[float]:
        """Reads one user repeatedly, in the first process. Returns the seconds of each read."""

        def work() -> list[float]:
            client, took = _client(case), []
            for _ in range(reads):
                started = time.perf_counter()
                client.read(user_id(number))
                took.append(time.perf_counter() - started)
            return took

        return [] if self.number else self._pool.submit(work).result()

    def leave(self, *, cache: str, port: int) -> bool:
        """Removes the node at this port from the ring, for all processes."""
        from django.core.cache import caches

        from placement.ring import arrangement

        ring = caches[cache].ring  # type: ignore[attr-defined]
        [node] = [name for name in ring.members.names if f":{port}/" in name]
        return bool(ring.members.change(lambda view, now: arrangement.leave(view, node, now=now)))

    def _parts(self, workload: dict[str, Any]) -> list[list[Operation]]:
        operations = Workload(**workload).operations()
        mine = of_process(operations, process=self.number, of=self.processes)
        return by_thread(mine, threads=THREADS, processes=self.processes)


def _pace(operations: Sequence[Operation], case: dict[str, Any], begin: float) -> dict[str, Any]:
    from tests.benchmarks.lab.client import Refused

    clients: dict[int, Client] = {}
    free: dict[int, float] = {}  # when the client had its previous answer
    found: dict[str, list[Any]] = {"answers": [], "latencies": [], "failures": []}
    for each in operations:
        client = clients.get(each.client) or clients.setdefault(each.client, _client(case))
        due = begin + each.due
        _wait_until(due)
        sent = time.monotonic()
        try:
            answer = _send(client, each)
        except Exception as error:  # noqa: BLE001 - any error is an error of the request
            name = str(error) if isinstance(error, Refused) else type(error).__name__
            found["failures"].append([sent, time.monotonic(), each.writes, name])
        else:
            received = time.monotonic()
            found["latencies"].append(received - max(due, free.get(each.client, due)))
            found["answers"].append(
                [
                    *(each.client, each.user, each.writes, answer.version),
                    *(sent, received, answer.served_by),
                ]
            )
        free[each.client] = time.monotonic()
    return found


def _saturate(
    operations: Sequence[Operation], case: dict[str, Any], until: float
) -> dict[str, int]:
    clients: dict[int, Client] = {}
    answered = failed = 0
    for each in cycle(operations):
        if time.monotonic() >= until:
            break
        client = clients.get(each.client) or clients.setdefault(each.client, _client(case))
        try:
            _send(client, each)
            answered += 1
        except Exception:  # noqa: BLE001 - any error is an error of the request
            failed += 1
    return {"answered": answered, "failed": failed}


def _send(client: "Client", operation: Operation) -> Any:
    if operation.writes:
        return client.write(user_id(operation.user), f"Customer at {operation.due:.3f}")
    return client.read(user_id(operation.user))


def _client(case: dict[str, Any], *, life_seconds: float | None = None) -> "Client":
    from tests.benchmarks.lab.client import Client

    return Client(**case, life_seconds=life_seconds)


def _closing(work: Callable[[int], str]) -> Callable[[int], str]:
    """Closes the thread's connections after the work: the thread ends."""
    from django.db import connections

    def run(number: int) -> str:
        try:
            return work(number)
        finally:
            connections.close_all()

    return run


def _wait_until(moment: float) -> None:
    if (early := moment - time.monotonic()) > 0:
        pause(early)


def main(number: int, processes: int) -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
    import django

    django.setup()
    process = Process(number, processes)
    for line in sys.stdin:
        sys.stdout.write(json.dumps(process.answer(json.loads(line))) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
