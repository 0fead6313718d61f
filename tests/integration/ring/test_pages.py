"""Django's template tag and middleware keep their output in the ring."""

import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.core.cache import caches
from django.http import HttpRequest, HttpResponse
from django.template import Context, Engine, engines
from django.template.response import TemplateResponse
from django.test import RequestFactory
from django.test.utils import override_settings
from django.views.decorators.cache import cache_page
from rest_framework.response import Response
from rest_framework.views import APIView

from placement.ring.cache import RingCache
from tests.integration.ring.conftest import Servers

pytestmark = pytest.mark.usefixtures("patient_ring")
ENGINE = Engine(libraries={"cache": "django.templatetags.cache"}, autoescape=True)


@pytest.fixture
def cache(servers: Servers) -> Iterator[RingCache]:
    nodes = [node.url for node in servers.nodes]
    ring = {
        "BACKEND": "placement.ring.cache.RingCache",
        "LOCATION": nodes,
        "OPTIONS": {"STORE": servers.store.url},
    }
    with override_settings(CACHES={"default": ring}):
        yield caches["default"]  # type: ignore[misc]


def counted(answer: Callable[[HttpRequest, int], HttpResponse]) -> Callable[..., HttpResponse]:
    """A view that is cached for a minute; `answer` gets the number of its calls."""
    calls: list[HttpRequest] = []

    @cache_page(60)
    def view(request: HttpRequest) -> HttpResponse:
        calls.append(request)
        return answer(request, len(calls))

    return view


def fetch(view: Callable[..., HttpResponse]) -> HttpResponse:
    response = view(RequestFactory().get("/page"))
    if not getattr(response, "is_rendered", True):
        response = response.render()  # type: ignore[attr-defined] # as Django's handler does
    return response


def test_the_template_tag_keeps_its_fragment(cache: RingCache) -> None:
    template = ENGINE.from_string("{% load cache %}{% cache 60 menu %}<b>{{ n }}</b>{% endcache %}")

    pages = [template.render(Context({"n": n})) for n in ("<1>", "<2>")]
    assert pages == ["<b>&lt;1&gt;</b>"] * 2
    assert cache.ring.counts["hits"] == 1


def template_answer(request: HttpRequest, number: int) -> HttpResponse:
    template: Any = engines["django"].from_string("{{ n }}")
    return TemplateResponse(request, template, {"n": number})


class View(APIView):
    authentication_classes = ()
    permission_classes = ()
    throttle_classes = ()
    number = 0

    def get(self, request: HttpRequest) -> Response:
        return Response({"number": self.number}, headers={"X-Number": str(self.number)})


@pytest.mark.parametrize(
    "answer",
    [
        lambda _, number: HttpResponse(f"number {number}", headers={"X-Number": str(number)}),
        template_answer,
        lambda request, number: View.as_view(number=number)(request),
    ],
    ids=["response", "template response", "API response"],
)
def test_a_cached_page_is_sent_again(
    cache: RingCache, answer: Callable[[HttpRequest, int], HttpResponse]
) -> None:
    view = counted(answer)
    first, second = fetch(view), fetch(view)

    assert second.content == first.content
    assert b"1" in second.content
    assert second.status_code == 200
    assert dict(second.headers) == dict(first.headers) | {"Age": second["Age"]}


def test_a_page_above_the_size_limit_is_sent_and_not_cached(
    cache: RingCache, caplog: pytest.LogCaptureFixture
) -> None:
    view = counted(lambda _, number: HttpResponse(b"x" * (1_000_001 if number == 1 else 1)))

    with caplog.at_level(logging.ERROR, "placement.ring"):
        assert len(fetch(view).content) == 1_000_001
    assert "not cached: the value of " in caplog.text
    assert fetch(view).content == b"x"
    assert fetch(view).content == b"x"
