"""Measures the `eventsourcing` library with its PostgreSQL recorder, to compare it with orders.

The library runs in its own virtual environment, installed from its own lock file at first use.
"""

import json
import os
import signal
import subprocess
from pathlib import Path
from typing import Final

from psycopg2.extensions import parse_dsn

from tests.benchmarks.ground import Ground
from tests.benchmarks.scale import Scale
from tests.support.environments import python_with

LOCK: Final = Path(__file__).with_name("requirements.txt")
PROGRAM: Final = Path(__file__).with_name("program.py")
TABLES: Final = "orders.rival_events"


def measure(ground: Ground, scale: Scale) -> dict[str, float]:
    """Returns appends a second and replayed events a second.

    The number of writers and the duration are those of the measurement of our event store. Raises
    RuntimeError when the library can't be installed or fails.
    """
    python = python_with(LOCK)
    # The library creates tables, and its pools open more connections than an owner may have.
    parts = parse_dsn(ground.by_tcp(ground.stack.owner("orders")))
    ground.query("ALTER ROLE orders_owner CONNECTION LIMIT -1")
    environment = {
        "PATH": "/usr/bin:/bin",
        "PERSISTENCE_MODULE": "eventsourcing.postgres",
        "POSTGRES_DBNAME": parts["dbname"],
        "POSTGRES_HOST": parts["host"],
        "POSTGRES_PORT": parts["port"],
        "POSTGRES_USER": parts["user"],
        "POSTGRES_PASSWORD": parts["password"],
        "POSTGRES_SCHEMA": "orders",
    }
    try:
        return _ask(python, environment, scale)
    finally:
        ground.query(f"DROP TABLE IF EXISTS {TABLES}", dsn=ground.application_dsn)


def _ask(python: Path, environment: dict[str, str], scale: Scale) -> dict[str, float]:
    seconds = scale.rounds * scale.store_seconds
    with subprocess.Popen(
        [str(python), str(PROGRAM), str(scale.store_writers), str(seconds)],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            output, error = process.communicate(timeout=seconds * 10 + 180)
        except BaseException:
            os.killpg(process.pid, signal.SIGKILL)  # also ends the program's writers
            raise
    if process.returncode:
        lines = [line for line in error.splitlines() if "Error" in line] or error.splitlines()
        raise RuntimeError(f"the eventsourcing library failed: {' '.join(lines[:1])}")
    return dict(json.loads(output))
