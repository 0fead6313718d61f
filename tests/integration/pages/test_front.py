"""The front page with the real state of this process."""

from django.conf import settings
from django.test import Client

from outbox.streams import Streams
from outbox.tables import Tables
from pages import health


def test_the_front_page_shows_the_state_of_every_service(shop: Tables, streams: Streams) -> None:
    page = Client().get("/")

    assert page.status_code == 200
    assert {part.name for part in page.context["parts"]} >= set(settings.SERVICES)
    assert health.WORDS["streams"] not in {part.words for part in page.context["parts"]}
    assert page.context["warnings"] == []


def test_without_the_stream_server_requests_work_and_the_page_says_so(shop: Tables) -> None:
    page = Client().get("/")

    assert page.status_code == 200
    of_services = [part for part in page.context["parts"] if part.name in settings.SERVICES]
    assert all(health.WORDS["streams"] in part.words for part in of_services)
