from types import SimpleNamespace
from typing import Any

from django.conf import settings

from config.celery import schedule


def test_beat_keeps_the_schedule_of_the_settings() -> None:
    own = {"own": {"task": "shop.own", "schedule": 60.0}}
    sender: Any = SimpleNamespace(conf=SimpleNamespace(beat_schedule=own))
    schedule(sender)
    assert sender.conf.beat_schedule["own"] == own["own"]
    assert f"relay-{settings.SERVICES[0]}" in sender.conf.beat_schedule
    assert f"sample-{settings.SERVICES[0]}" in sender.conf.beat_schedule
