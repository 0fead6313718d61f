"""Reads pages of the admin's list of outbox rows, in a process with the environment of orders."""

import json
import os
import sys
import time
from typing import Any

LISTING = "/admin/orders/outboxevent/"


def main(question: dict[str, Any]) -> dict[str, list[float]]:
    """Returns the seconds of each request, by kind. The kinds take turns."""
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
    import django

    django.setup()
    from django.contrib.auth.models import User
    from django.test import Client
    from django.utils.http import urlencode

    from orders.models import OutboxEvent

    client = Client(SERVER_NAME="127.0.0.1")
    client.force_login(User.objects.filter(is_superuser=True)[0])
    rows = OutboxEvent.objects.order_by("-id")
    last, first = rows[0].pk, rows.reverse()[0].pk
    middle = (first + last) // 2
    pages = {
        "first page": {},
        "page in the middle": {"p": json.dumps([str(middle)])},
        "last page": {"p": json.dumps([str(first + 50)])},
        "search by id": {"q": str(middle)},
    }
    took: dict[str, list[float]] = {page: [] for page in pages}
    for number in range(-1, question["requests"]):  # the first round isn't measured
        for page, parameters in pages.items():
            began = time.perf_counter()
            answer = client.get(f"{LISTING}?{urlencode(parameters)}")
            if answer.status_code != 200 or b"orders.order.placed.v1" not in answer.content:
                raise RuntimeError(f"{page}: {answer.status_code}, or a list without rows")
            if number >= 0:
                took[page].append(time.perf_counter() - began)
    return took


if __name__ == "__main__":
    json.dump(main(json.loads(sys.argv[1])), sys.stdout)
