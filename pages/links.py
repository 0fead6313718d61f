"""Addresses of pages in the deployment of a service; '' if the deployment has no known address."""

from uuid import UUID

from django.conf import settings
from django.urls import reverse
from django.utils.http import urlencode

from outbox.admin import page_url, row_url


def parked(service: str, **query: str) -> str:
    """The parked sequences of a service, of a `group`, or that contain the text `q`."""
    return page_url(service, f"{reverse('pages:flow-parked')}?{urlencode(query)}") or ""


def retry(service: str, *, group: str) -> str:
    """The page that confirms the retry of a group of parked sequences."""
    query = urlencode({"group": group})
    return page_url(service, f"{reverse('pages:flow-retry')}?{query}") or ""


def row(service: str, model: str, pk: UUID | int) -> str:
    """The page of a row in the admin."""
    return row_url(service, model, pk) or ""


def story(order_id: UUID) -> str:
    if settings.STORY:
        return reverse("pages:story", args=[order_id])
    return page_url("orders", f"/orders/{order_id}/") or ""
