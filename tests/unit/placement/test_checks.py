from pytest_django import Settings

from placement import checks


def ids() -> list[str | None]:
    return [message.id for message in checks.placement_is_coherent(None)]


def test_the_checks_find_no_problem_in_this_deployment() -> None:
    assert ids() == []


def test_a_problem_renderer_that_cannot_be_imported_is_reported(settings: Settings) -> None:
    settings.PLACEMENT_PROBLEM_RENDERER = "config.problems.nothing"
    assert ids() == ["placement.E008"]


def test_a_service_is_found_by_the_label_of_its_app(settings: Settings) -> None:
    settings.PLACEMENT_HOMES = {"auth": "default"}  # the name of this app is django.contrib.auth
    assert ids() == ["placement.E005"]
