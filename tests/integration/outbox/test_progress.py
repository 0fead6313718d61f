"""A loop reports its progress, so that a supervisor notices a loop that hangs."""

import os
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from django.db import connections

from outbox import progress, tasks
from outbox.consuming.membership import Membership
from tests.support.waiting import eventually

PATIENCE_SECONDS = 10.0


@pytest.fixture
def folder(settings: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Every report touches a file here."""
    monkeypatch.setattr(progress, "EVERY_SECONDS", 0.0)
    monkeypatch.setattr(progress, "_due_at", {})
    settings.OUTBOX_PROGRESS_FOLDER = str(tmp_path / "progress")
    return tmp_path / "progress"


def touched_at(file: Path) -> int:
    return file.stat().st_mtime_ns if file.exists() else 0


def wait_for_a_report_in(file: Path) -> int:
    """Wait for a report from now on. Returns its time."""
    before = touched_at(file)
    eventually(
        lambda: touched_at(file) > before,
        within_seconds=PATIENCE_SECONDS,
        what=f"a new report in {file}",
    )
    return touched_at(file)


@pytest.mark.parametrize("fails", [False, True], ids=["in a batch", "singly, after an error"])
def test_a_reader_whose_handler_hangs_reports_nothing_while_its_lease_does(
    shop, streams, relay, record, reader_of, folder, fails
):
    entered, released = threading.Event(), threading.Event()
    errors = iter([ValueError("once")] if fails else [])

    def hang(envelope: Any) -> None:
        if error := next(errors, None):
            raise error
        entered.set()
        released.wait(PATIENCE_SECONDS)

    membership = Membership(f"{shop.label}.probe", streams)
    membership.renew()
    reader = reader_of(hang, membership=membership)
    of_reader, of_lease = (
        folder / reader.name.replace(" ", "-"),
        folder / f"lease-of-{shop.label}.probe",
    )
    threads = [
        threading.Thread(target=reader.run),
        threading.Thread(target=membership.run, args=[reader._stopping]),
    ]
    for thread in threads:
        thread.start()
    try:
        wait_for_a_report_in(of_reader)  # without events
        record()
        relay.drain()
        assert entered.wait(PATIENCE_SECONDS)
        hanging_since = touched_at(of_reader)
        wait_for_a_report_in(of_lease)
        assert touched_at(of_reader) == hanging_since
        released.set()
        wait_for_a_report_in(of_reader)
    finally:
        released.set()
        reader._stopping.set()
        for thread in threads:
            thread.join(PATIENCE_SECONDS)


def test_a_reader_reports_between_the_events_of_a_batch(relay, record, reader_of, folder):
    """Their transaction may take longer than a supervisor waits, and a restart would repeat it."""
    reported: list[int] = []

    def handle(_: Any) -> None:
        file = folder / reader.name.replace(" ", "-")
        reported.append(touched_at(file))
        os.utime(file, (0, 0))

    reader = reader_of(handle)
    for number in (1, 2, 3):
        record(sequence=number)
    relay.drain()
    reader.step()

    assert len(reported) == 3
    assert all(reported)


def test_a_relay_reports_each_round_and_a_task_beside_it_reports_nothing(
    shop, streams, folder, monkeypatch
):
    file = folder / f"relay-of-{shop.label}"
    monkeypatch.setattr(tasks, "_stopping", threading.Event())
    monkeypatch.setattr(tasks, "_running_until", {shop.label: time.monotonic() + 60})
    tasks.relay(shop.label)  # another task of this process counts as running, and may hang
    assert not file.exists()

    tasks._running_until.clear()

    def work() -> None:
        tasks.relay(shop.label)
        connections.close_all()

    working = threading.Thread(target=work)
    working.start()
    try:
        wait_for_a_report_in(file)
        wait_for_a_report_in(file)  # it waits for a nudge, a second at most
        tasks._running_until.clear()
        tasks.relay(shop.label)  # another process has the relay: this one doesn't hang
    finally:
        tasks._stop()
        working.join(PATIENCE_SECONDS)


def test_a_folder_that_cannot_be_written_stops_no_loop(settings, tmp_path, folder, caplog):
    (tmp_path / "file").touch()
    settings.OUTBOX_PROGRESS_FOLDER = str(tmp_path / "file")

    progress.report("relay of shop")

    assert "the progress of relay of shop isn't reported" in caplog.text
