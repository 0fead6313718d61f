"""Guesses of passwords, at each door where a password is checked."""

import logging
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any
from unittest.mock import patch

import pytest
from django.contrib.auth.hashers import MD5PasswordHasher, PBKDF2PasswordHasher
from django.contrib.auth.models import User as Staff
from django.core.cache import cache
from django.test import Client, RequestFactory
from rest_framework.exceptions import Throttled
from rest_framework.test import APIClient

from accounts.domain.state import UserState
from accounts.models import OutboxEvent, User
from config.clients import client_of
from config.logins.guard import guard
from config.logins.models import Attempts
from tests.integration.accounts.conftest import PASSWORD, Register
from tests.integration.accounts.test_users_api import of, problem

# A refusal rolls back a transaction.
pytestmark = pytest.mark.django_db(transaction=True)

HERE, THERE, ELSEWHERE = "198.51.100.1", "198.51.100.2", "203.0.113.3"
WRONG = "a wrong password"
FREE = "1000/h"

Guess = Callable[[str, str], Any]  # (password, address of the client) -> response


@pytest.fixture(autouse=True)
def limits(settings: Any) -> dict[str, str]:
    """Three failures for an account at one address; a test sets the other limits."""
    rates = {"account": FREE, "address": FREE, "account and address": "3/h"}
    settings.LOGIN_RATES = rates
    return rates


@pytest.fixture
def grace() -> Staff:
    return Staff.objects.create_superuser("grace", password=PASSWORD)


@pytest.fixture
def hashes() -> Iterator[Any]:
    """The calls that compute a hash."""
    real = MD5PasswordHasher.encode
    with patch.object(MD5PasswordHasher, "encode", autospec=True, side_effect=real) as encode:
        yield encode


def at_the_api(ada: UserState) -> Guess:
    def guess(password: str, address: str) -> Any:
        body = {"email": ada.email, "password": password}
        return APIClient(REMOTE_ADDR=address).post("/api/token/", body)

    return guess


def at_the_back_office(path: str) -> Callable[[Staff], Guess]:
    def door(grace: Staff) -> Guess:
        def guess(password: str, address: str) -> Any:
            form = {"username": grace.username, "password": password}
            return Client(REMOTE_ADDR=address).post(path, form)

        return guess

    return door


def at_the_form_of_a_new_password(grace: Staff) -> Guess:
    def guess(password: str, address: str) -> Any:
        browser = Client(REMOTE_ADDR=address)
        grace.refresh_from_db()  # a new password ends the other sessions
        browser.force_login(grace)
        new = {"new_password1": PASSWORD, "new_password2": PASSWORD}
        return browser.post("/admin/password_change/", {"old_password": password, **new})

    return guess


@pytest.fixture(
    params=[
        at_the_api,
        at_the_back_office("/admin/login/"),
        at_the_back_office("/api/session/login/"),
        at_the_form_of_a_new_password,
    ],
    ids=["api", "admin", "browsable api", "new password"],
)
def guess(request: Any, ada: UserState, grace: Staff) -> Guess:
    made: Guess = request.param(ada if request.param is at_the_api else grace)
    return made


def is_in(response: Any) -> bool:
    """Forms redirect after a success, and are shown again after an error."""
    is_json = response["Content-Type"] == "application/json"
    return bool(response.status_code == (200 if is_json else 302))


def test_a_guess_above_the_limit_is_refused_although_it_is_right(
    guess: Guess, hashes: Any, caplog: Any
) -> None:
    for _ in range(3):
        response = guess(WRONG, HERE)
        assert response.status_code in {200, 401}
        assert not is_in(response)
    computed = hashes.call_count
    with caplog.at_level(logging.WARNING, logger="config.logins"):
        response = guess(PASSWORD, HERE)
    problem_in(response)
    assert hashes.call_count == computed
    [line] = [each.getMessage() for each in caplog.records if each.name == "config.logins.guard"]
    assert "3 have failed for one account and address" in line
    for secret in (PASSWORD, WRONG, "ada@", "grace"):
        assert secret not in line.lower()

    assert is_in(guess(PASSWORD, ELSEWHERE))  # a client can't lock the owner out


def problem_in(response: Any) -> None:
    assert response.status_code == 429
    assert 0 < int(response["Retry-After"]) <= 3600
    assert response["Content-Type"] == "application/problem+json"
    assert response.json()["type"] == "/problems/throttled"


def test_a_browser_gets_the_refusal_of_a_log_in_as_a_page(grace: Staff, limits: Any) -> None:
    limits["address"] = "0/h"
    form = {"username": grace.username, "password": PASSWORD}
    response = Client().post("/admin/login/", form, headers={"Accept": "text/html"})
    assert response.status_code == 429
    assert response["Content-Type"].startswith("text/html")


def test_one_account_is_limited_over_all_addresses(guess: Guess, limits: Any) -> None:
    limits["account"] = "2/h"
    for address in (HERE, THERE):
        assert not is_in(guess(WRONG, address))
    problem_in(guess(PASSWORD, ELSEWHERE))


def test_one_address_is_limited_over_all_accounts(
    ada: UserState, register: Register, limits: Any
) -> None:
    limits["address"] = "2/h"
    for user in (register(), register()):
        assert at_the_api(user)(WRONG, HERE).status_code == 401
    problem_in(at_the_api(ada)(PASSWORD, HERE))
    assert is_in(at_the_api(ada)(PASSWORD, THERE))


def test_a_client_has_one_count_for_all_addresses_of_its_network(settings: Any) -> None:
    def client(address: str, **headers: str) -> str:
        return client_of(RequestFactory(REMOTE_ADDR=address).get("/", headers=headers))

    assert client("2001:db8::1") == client("2001:db8::ffff:2") != client("2001:db8:0:1::1")
    assert client("::ffff:198.51.100.1") == client(HERE) != client(THERE)
    assert client("") == client("nonsense") == client_of(None)
    # Only a trusted proxy names the client.
    forged = {"X-Forwarded-For": f"{ELSEWHERE}, {THERE}"}
    assert client(HERE, **forged) == client(HERE)
    with patch("rest_framework.throttling.api_settings.NUM_PROXIES", 1):
        assert client(HERE, **forged) == client(THERE)


@pytest.mark.parametrize(
    ("throttle", "scope", "path"),
    [
        ("ScopedRateThrottle", "register", "/api/users/"),
        ("ScopedRateThrottle", "token", "/api/token/"),
        ("AnonRateThrottle", "anon", "/api/users/"),
    ],
)
def test_a_network_is_one_client_of_every_rate(
    throttle: str, scope: str, path: str, monkeypatch: Any
) -> None:
    from rest_framework import throttling

    monkeypatch.setattr(getattr(throttling, throttle), "THROTTLE_RATES", {scope: "1/min"})

    def post(address: str) -> int:
        return int(APIClient(REMOTE_ADDR=address).post(path, {}).status_code)

    assert [post("2001:db8::1"), post("2001:db8::2"), post("2001:db8:0:1::1")] == [400, 429, 400]


def test_a_client_that_has_logged_in_is_not_kept_out_by_others(
    ada: UserState, grace: Staff, limits: Any
) -> None:
    for guess in (at_the_api(ada), at_the_back_office("/admin/login/")(grace)):
        limits |= {"account": FREE, "address": FREE}
        assert is_in(guess(PASSWORD, HERE))
        limits |= {"account": "0/h", "address": "0/h"}  # as if others had used them up
        problem_in(guess(PASSWORD, THERE))
        for _ in range(3):
            assert is_in(guess(PASSWORD, HERE))
            assert not is_in(guess(WRONG, HERE))
        problem_in(guess(PASSWORD, HERE))


def test_a_correct_password_does_not_reset_the_count(guess: Guess) -> None:
    for password in (WRONG, WRONG, PASSWORD, WRONG):
        assert is_in(guess(password, HERE)) == (password == PASSWORD)
    problem_in(guess(PASSWORD, HERE))


def test_guesses_at_the_same_time_are_counted_before_they_fail() -> None:
    request = RequestFactory().get("/")
    with ExitStack() as concurrent:
        for _ in range(3):
            concurrent.enter_context(guard(request, account="ada", wrong=ValueError))
        with pytest.raises(Throttled):
            concurrent.enter_context(guard(request, account="ada", wrong=ValueError))
    with guard(request, account="ada", wrong=ValueError):  # they have succeeded
        pass


def test_a_count_survives_the_loss_of_the_cache_and_ends_with_its_period(guess: Guess) -> None:
    for _ in range(3):
        guess(WRONG, HERE)
    cache.clear()
    problem_in(guess(PASSWORD, HERE))
    Attempts.objects.update(ends_at="2026-01-01T00:00:00Z")
    assert is_in(guess(PASSWORD, HERE))


def test_the_counts_name_no_account_and_old_ones_are_deleted(ada: UserState) -> None:
    guess = at_the_api(ada)
    guess(WRONG, HERE)
    kept = list(Attempts.objects.values_list("key", flat=True))
    assert len(kept) == 3
    assert all(len(key) == 64 and int(key, 16) for key in kept)
    Attempts.objects.update(ends_at="2026-01-01T00:00:00Z")
    guess(WRONG, THERE)
    assert not Attempts.objects.filter(key__in=kept, ends_at__year=2026, ends_at__month=1).exists()


def test_an_unknown_address_has_the_same_limits_answers_and_hashes(
    ada: UserState, hashes: Any
) -> None:
    seen = {}
    for email in (ada.email, "nobody@example.com"):
        answers = []
        for _ in range(4):
            before = hashes.call_count
            body = {"email": email, "password": WRONG}
            response = APIClient().post("/api/token/", body)
            answers.append((response.status_code, hashes.call_count - before))
        seen[email] = answers
    assert seen[ada.email] == seen["nobody@example.com"]
    assert [status for status, _ in seen[ada.email]] == [401, 401, 401, 429]


def test_no_other_form_of_an_address_and_no_other_door_tells_whether_it_exists(
    ada: UserState,
) -> None:
    def log_in(email: str) -> int:
        body = {"email": email, "password": WRONG}
        return int(APIClient().post("/api/token/", body).status_code)

    for email in (ada.email, "nobody@example.com"):
        wide = chr(ord(email[0]) + 0xFEE0) + email[1:]  # looks alike, and is another address
        for _ in range(4):
            log_in(wide)
            Client().post("/admin/login/", {"username": email, "password": WRONG})
        forms = (email, email.upper(), email.lower(), email.title())
        assert [log_in(form) for form in forms] == [401, 401, 401, 429]


def test_a_typed_id_shares_no_limit_with_the_user_that_has_it(ada: UserState) -> None:
    """Otherwise guesses at an id would tell whether a user has it."""
    for _ in range(4):
        body = {"email": str(ada.id), "password": WRONG}
        response = APIClient(REMOTE_ADDR=HERE).post("/api/token/", body)
    problem_in(response)
    assert is_in(at_the_api(ada)(PASSWORD, HERE))


def test_a_log_in_renews_a_hash_that_takes_another_time(ada: UserState, settings: Any) -> None:
    hashers = "django.contrib.auth.hashers"
    settings.PASSWORD_HASHERS = [f"{hashers}.MD5PasswordHasher", f"{hashers}.PBKDF2PasswordHasher"]
    imported = PBKDF2PasswordHasher().encode(PASSWORD, "a-salt-of-22-characters", iterations=9)
    User.objects.filter(pk=ada.id).update(password=imported)
    events = OutboxEvent.objects.count()

    def stored() -> tuple[str, int]:
        row = User.objects.get(pk=ada.id)
        return row.password, row.version

    guess = at_the_api(ada)
    assert not is_in(guess(WRONG, HERE))
    assert stored() == (imported, ada.version)
    assert is_in(guess(PASSWORD, HERE))
    renewed = stored()
    assert renewed[0].startswith("md5$")
    assert renewed[1] == ada.version
    assert OutboxEvent.objects.count() == events
    assert is_in(guess(PASSWORD, HERE))
    assert stored() == renewed


def test_a_change_that_must_be_refused_computes_no_hash(
    ada: UserState, ada_api: APIClient, register: Register, hashes: Any
) -> None:
    taken = register().email
    new = {"password": "another good one", "current_password": PASSWORD}
    refusals = [
        ({**new, "version": 7}, 412, "stale-version"),
        ({**new, "version": 1, "credit_limit": "9.00"}, 403, "staff-only"),
        ({**new, "version": 1, "name": "\u200b"}, 400, "validation"),
        ({**new, "version": 1, "email": taken}, 409, "email-taken"),
        ({**new, "version": 1, "password": "1234567890"}, 400, "validation"),
        ({"password": "another good one", "version": 1}, 403, "wrong-password"),
    ]
    hashes.reset_mock()
    for change, status, slug in refusals:
        problem(ada_api.patch(of(ada), change), status, slug)
    registration = {"name": "x", "email": ada.email, "password": PASSWORD}
    problem(APIClient().post("/api/users/", registration), 409, "email-taken")
    assert hashes.call_count == 0
    assert ada_api.patch(of(ada), {**new, "version": 1}).status_code == 200


def test_guesses_with_a_stolen_access_token_share_the_limits_of_a_log_in(
    ada: UserState, ada_api: APIClient
) -> None:
    def change(password: str) -> Any:
        body = {"password": "another good one", "current_password": password, "version": 1}
        return ada_api.patch(of(ada), body)

    problem(change(WRONG), 403, "wrong-password")
    stale = {"email": "x@example.com", "current_password": WRONG, "version": 7}
    for _ in range(3):  # not a guess: the password isn't checked
        problem(ada_api.patch(of(ada), stale), 412, "stale-version")
    for _ in range(2):
        problem(change(WRONG), 403, "wrong-password")
    problem(change(PASSWORD), 429, "throttled")
    problem_in(at_the_api(ada)(PASSWORD, "127.0.0.1"))


def test_changes_that_hash_have_a_rate_of_their_own(
    ada: UserState, ada_api: APIClient, monkeypatch: Any
) -> None:
    from rest_framework.throttling import ScopedRateThrottle

    monkeypatch.setattr(ScopedRateThrottle, "THROTTLE_RATES", {"password": "1/min"})
    change = {"password": "another good one", "version": 1}
    problem(ada_api.patch(of(ada), change), 403, "wrong-password")
    problem(ada_api.patch(of(ada), change), 429, "throttled")
    assert ada_api.patch(of(ada), {"name": "x", "version": 1}).status_code == 200
    assert ada_api.patch(of(ada), [1]).status_code == 400
