from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from django.conf import settings

from config.beat import Scheduler
from config.celery import app, expect_relays, schedule
from outbox import progress


def test_beat_keeps_the_schedule_of_the_settings() -> None:
    own = {"own": {"task": "shop.own", "schedule": 60.0}}
    sender: Any = SimpleNamespace(conf=SimpleNamespace(beat_schedule=own))
    schedule(sender)
    assert sender.conf.beat_schedule["own"] == own["own"]
    assert f"relay-{settings.SERVICES[0]}" in sender.conf.beat_schedule
    assert f"sample-{settings.SERVICES[0]}" in sender.conf.beat_schedule


def test_beat_reports_each_tick_and_a_worker_expects_each_relay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(settings, "OUTBOX_PROGRESS_FOLDER", str(tmp_path), raising=False)
    monkeypatch.setattr(progress, "_due_at", {})

    assert settings.CELERY_BEAT_SCHEDULER == "config.beat:Scheduler"
    Scheduler(app, schedule={}, lazy=True).tick()
    expect_relays()

    relays = {f"relay-of-{label}" for label in settings.APPLICATIONS}
    assert {file.name for file in tmp_path.iterdir()} == {"beat", *relays}
