"""Tests of both stages. `./dev test -n 0 tests/integration/journey` runs them in each stage."""

from decimal import Decimal
from importlib import import_module
from typing import Any

import pytest
from django.apps import apps
from django.core import mail
from django.db import DEFAULT_DB_ALIAS, connections

STAGE = int(apps.get_app_config("shop").name[len("stage")])
orders = import_module(f"stage{STAGE}.shop.orders")
pytestmark = pytest.mark.django_db(transaction=True, databases="__all__")
only = {stage: pytest.mark.skipif(stage != STAGE, reason="another stage") for stage in (0, 1)}


@pytest.fixture
def ada() -> int:
    customers = apps.get_model("customers", "Customer").objects
    return int(customers.create(name="Ada", email="ada@example.com", credit_limit=100).pk)


def place(customer: int, price: str) -> Any:
    order = orders.place(customer, [{"sku": "tea", "quantity": 1, "unit_price": price}])
    order.refresh_from_db()
    return order


def test_a_confirmed_order_gets_a_receipt(ada: int) -> None:
    assert place(ada, "60.00").status == "CONFIRMED"
    assert [message.to for message in mail.outbox] == [["ada@example.com"]]


def test_an_order_above_the_credit_is_not_confirmed(ada: int) -> None:
    place(ada, "60.00")
    if STAGE == 0:
        with pytest.raises(orders.NotEnoughCredit):
            place(ada, "40.01")
    else:
        assert place(ada, "40.01").status == "REJECTED"
    assert place(ada, "40.00").status == "CONFIRMED"


def test_cancelling_frees_the_credit(ada: int) -> None:
    orders.cancel(place(ada, "100.00").pk)
    assert place(ada, "100.00").status == "CONFIRMED"


def test_the_list_shows_names(ada: int, django_assert_num_queries: Any) -> None:
    placed = place(ada, "60.00")
    home = connections["shop" if STAGE else DEFAULT_DB_ALIAS]
    with django_assert_num_queries(1, connection=home):
        assert orders.report() == [(placed.pk, "Ada", "CONFIRMED", Decimal("60.00"))]


@only[0]
def test_a_lost_task_is_lost_for_ever(ada: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(orders.send_receipt, "delay", lambda _: None)
    assert place(ada, "60.00").status == "CONFIRMED"
    assert mail.outbox == []


@only[1]
def test_the_sweep_decides_an_order_whose_task_was_lost(ada: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(orders.decide, "delay", lambda _: None)
        order = place(ada, "100.00")
    assert order.status == "PENDING"
    for _ in range(2):
        orders.sweep()
        order.refresh_from_db()
        assert order.status == "CONFIRMED"
    assert place(ada, "0.01").status == "REJECTED"
