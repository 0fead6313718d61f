"""Every page of the admin answers any query string without a 500."""

import json
from collections.abc import Iterator
from typing import Any, Final

import pytest
from django.contrib import admin
from django.contrib.auth.models import User
from django.test import Client

# A refused statement must not end the transaction of the test.
pytestmark = pytest.mark.django_db(transaction=True)

STAFF: Final = "/admin/auth/user/"
# Django builds a query with each of these, and can't compile or run it.
UNUSABLE: Final = {"": "\0", "__regex": "(", "__range": "1", "__range__gt": "x", "__gt": "x"}

HOSTILE: Final[dict[str, tuple[str, ...]]] = {
    "p": (
        *("5", "-1", "9" * 5000, "[", "{}", "[1]", "[" * 20_000),
        *('["x"]', '["\\u0000"]', '["\\ud800"]'),
    ),
    "q": ("\0", "9" * 30, "9" * 5000, "%", "x", "'\"\\%_ \N{SNOWMAN}" * 100),
    "o": ("x", "99.-99.x.--1.." + "9" * 5000),
    "_changelist_filters": ("%ff&&==",),
    **dict.fromkeys(("all", "_facets"), ("", "x")),
    "_to_field": ("body", "password"),
    "pk__contains": ("1",),
    "consumer": ("\0",),
    **dict.fromkeys(("e", "_popup", "", "__", "nothing"), ("x",)),
    **dict.fromkeys(("pk__in", "id__nothing", "dropped_at__isempty"), ("x",)),
}


@pytest.fixture
def office(admin_client: Client) -> Client:
    admin_client.raise_request_exception = False
    return admin_client


def listings() -> dict[str, Any]:
    """The URL of each model's list, with its ModelAdmin."""
    return {
        f"/admin/{model._meta.app_label}/{model._meta.model_name}/": page
        for model, page in admin.site._registry.items()
    }


def fields() -> Iterator[tuple[str, str]]:
    """One field of each type, with the URL of its model's list."""
    seen = set()
    for url, page in listings().items():
        for field in page.model._meta.fields:
            if type(field) not in seen:
                seen.add(type(field))
                yield url, field.name


def test_every_column_sorts_its_list(office: Client) -> None:
    for url, page in listings().items():
        order = ".".join(f"{'-' * (n % 2)}{n}" for n in range(len(page.list_display)))
        assert office.get(url, {"o": order}).status_code == 200, url


def test_no_lookup_causes_a_500(office: Client) -> None:
    for url, field in fields():
        for lookup, value in UNUSABLE.items():
            status = office.get(url, {f"{field}{lookup}": value}).status_code
            assert status in {200, 302, 400}, (url, field, lookup)


@pytest.mark.parametrize(
    ("lookup", "value"),
    [
        ("username", "\0"),
        ("username__in", "a,\0"),
        ("username__regex", "("),
        ("date_joined__year", "0"),
        ("date_joined__year__gt", "9" * 30),
        ("id__range", "1"),
        ("id__range", "123"),
    ],
)
def test_a_lookup_that_cannot_be_applied_gets_400(office: Client, lookup: str, value: str) -> None:
    response = office.get(STAFF, {lookup: value})

    assert response.status_code == 400
    assert response.json()["type"] == "/problems/bad-request"


@pytest.mark.parametrize("name", HOSTILE)
def test_no_other_parameter_causes_a_500(office: Client, name: str) -> None:
    for url, page in listings().items():
        several = [
            json.dumps(json.loads(value) * len(page.ordering or ()))
            for value in HOSTILE[name]
            if name == "p" and value.endswith('"]')
        ]
        for value in (*HOSTILE[name], *several):
            status = office.get(url, {name: value}).status_code
            assert status in {200, 302, 400}, (url, value)


def test_an_action_refuses_a_selection_that_is_not_an_id(office: Client) -> None:
    for url, page in listings().items():
        for action in page.actions or (["delete_selected"] if url == STAFF else []):
            for chosen in ("x", "\0"):
                form = {"action": action, "_selected_action": [chosen]}
                assert office.post(url, form).status_code == 400, (url, chosen)


def test_other_urls_of_the_admin_cause_no_500(office: Client, admin_user: User) -> None:
    groups = {"app_label": "auth", "model_name": "user", "field_name": "groups"}
    for url, query in (
        ("/admin/autocomplete/", groups | {"term": "\0"}),
        ("/admin/autocomplete/", groups | {"term": "x", "page": "x"}),
        ("/admin/auth/group/add/", {"permissions": "x"}),
        (f"{STAFF}\0/change/", {}),
        (f"{STAFF}{admin_user.pk}/history/", {"p": "x"}),
    ):
        assert office.get(url, query).status_code in {200, 302, 400, 404}, (url, query)


def raises(*_: Any) -> Any:
    raise ValueError("a mistake of the code")


def reads_a_missing_column(*_: Any) -> Any:
    return User.objects.extra(where=["no_such_column"])


def runs_a_query_of_its_own(*_: Any) -> Any:
    return list(User.objects.filter(date_joined__year=0))


@pytest.mark.parametrize("mistake", [raises, reads_a_missing_column, runs_a_query_of_its_own])
@pytest.mark.parametrize("query", [{}, {"q": "x"}])
def test_a_mistake_of_the_code_stays_a_500(
    office: Client, monkeypatch: pytest.MonkeyPatch, mistake: Any, query: dict[str, str]
) -> None:
    monkeypatch.setattr(admin.site._registry[User], "get_queryset", mistake)

    assert office.get(STAFF, query).status_code == 500
