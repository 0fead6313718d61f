import pytest

from placement import checks


def test_this_deployment_is_coherent() -> None:
    assert checks.placement_is_coherent(None) == []


def test_psycopg3_is_reported_as_unusable_for_replicas(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(checks, "is_psycopg3", True)

    assert [message.id for message in checks.placement_is_coherent(None)] == ["placement.E007"]
