"""The front page with the real state of this process."""

import pytest
from django.conf import LazySettings, settings
from django.test import Client

from outbox.streams import Streams
from outbox.tables import Tables
from pages import health

pytestmark = pytest.mark.django_db(transaction=True)


def test_the_front_page_shows_the_state_of_every_service(shop: Tables, streams: Streams) -> None:
    page = Client().get("/")

    assert page.status_code == 200
    assert {part.name for part in page.context["parts"]} >= set(settings.SERVICES)
    assert not any(health.WORDS["streams"] in part.words for part in page.context["parts"])


def test_only_staff_see_links_to_other_deployments(
    staff: Client, streams: Streams, settings: LazySettings
) -> None:
    settings.OUTBOX_SITES = {"other": "http://other.example.com"}
    link = 'href="http://other.example.com/"'
    page = staff.get("/")
    assert link in page.content.decode()
    assert "no-store" in page["Cache-Control"]
    assert "other.example.com" not in Client().get("/").content.decode()


def test_without_the_stream_server_requests_work_and_the_page_says_so(shop: Tables) -> None:
    page = Client().get("/")

    assert page.status_code == 200
    of_services = [part for part in page.context["parts"] if part.name in settings.SERVICES]
    assert all(health.WORDS["streams"] in part.words for part in of_services)
