"""Routes for other services, to compare and repair their copies of users, and to compare orders
with reservations, and to show the story of an order. Users have no access.

All routes use POST: a request may list a thousand ids. Only the two backfill routes write, and
a request to them may be repeated.
"""

from typing import Any
from uuid import UUID

import msgspec
from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.parsers import JSONParser
from rest_framework.renderers import JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from outbox.agreeing.checksums import BUCKETS, FIRST

from .. import handlers, queries, storyline
from .peers import IsPeer, PeerAuthentication

MAX_ROWS = 200_000  # per page of buckets: about a second of work
MAX_STAMPS = 5_000
MAX_IDS = 1_000
MAX_PLACES = 50  # public events of one order

SNAPSHOT = r"^[0-9]{1,20}:[0-9]{1,20}:([0-9]{1,20}(,[0-9]{1,20})*)?$"


class PageSerializer(serializers.Serializer[Any]):
    after = serializers.UUIDField(default=FIRST)
    rows = serializers.IntegerField(min_value=1, max_value=MAX_ROWS)


class StampsSerializer(serializers.Serializer[Any]):
    """Selects users by id, or all users in some buckets of a page."""

    ids = serializers.ListField(child=serializers.UUIDField(), max_length=MAX_STAMPS, default=None)
    after = serializers.UUIDField(default=FIRST)
    upto = serializers.UUIDField(default=None, allow_null=True)
    buckets = serializers.ListField(
        child=serializers.IntegerField(min_value=0, max_value=BUCKETS - 1), default=list
    )


class PublishedSerializer(serializers.Serializer[Any]):
    snapshot = serializers.RegexField(SNAPSHOT, max_length=10_000)
    by = serializers.RegexField(SNAPSHOT, max_length=10_000, allow_blank=True)


class IdsSerializer(serializers.Serializer[Any]):
    ids = serializers.ListField(child=serializers.UUIDField(), min_length=1, max_length=MAX_IDS)


class ReservationsSerializer(serializers.Serializer[Any]):
    """Selects reservations. Without ids, the answer has only the positions and the snapshot."""

    ids = serializers.ListField(child=serializers.UUIDField(), max_length=MAX_IDS)


class StorySerializer(serializers.Serializer[Any]):
    """An order, and where its public events are (outbox.tracing.Place)."""

    order_id = serializers.UUIDField()
    places = serializers.ListField(child=serializers.DictField(), max_length=MAX_PLACES)


class BackfillPageSerializer(serializers.Serializer[Any]):
    after = serializers.UUIDField(default=FIRST)
    rows = serializers.IntegerField(min_value=1, max_value=MAX_IDS)


class InternalView(APIView):
    authentication_classes = (PeerAuthentication,)
    permission_classes = (IsPeer,)
    throttle_classes = ()
    parser_classes = (JSONParser,)
    renderer_classes = (JSONRenderer,)
    serializer_class: type[serializers.Serializer[Any]]

    @extend_schema(exclude=True)
    def post(self, request: Request) -> Response:
        serializer = self.serializer_class(data=request.data)
        serializer.is_valid(raise_exception=True)
        return Response(self.answer(**serializer.validated_data))

    def answer(self, **params: Any) -> dict[str, Any]:
        raise NotImplementedError


class Page(InternalView):
    """Return the last key (null at the end) and the buckets of the page that follows a key."""

    serializer_class = PageSerializer

    def answer(self, **params: Any) -> dict[str, Any]:
        last = queries.CHECKSUMS.end_of_page(**params)
        sums = queries.CHECKSUMS.sums(after=params["after"], upto=last) if last else {}
        return {"last": str(last) if last else None, "buckets": list(sums.items())}


class Stamps(InternalView):
    """Return each user's version and checksum, and a snapshot that sees the users' transactions."""

    serializer_class = StampsSerializer

    def answer(self, *, ids: list[UUID] | None = None, **page: Any) -> dict[str, Any]:
        if ids is None:
            found = queries.CHECKSUMS.within(**page, limit=MAX_STAMPS)
        else:
            found = queries.CHECKSUMS.of(ids)
        stamps = {str(id_): stamp for id_, stamp in found.items()}
        return {"stamps": stamps, "snapshot": queries.snapshot()}


class Published(InternalView):
    """Whether the published snapshot `by` covers all events that `snapshot` sees."""

    serializer_class = PublishedSerializer

    def answer(self, **params: Any) -> dict[str, Any]:
        return {"published": queries.is_published(params["snapshot"], by=params["by"])}


class Backfill(InternalView):
    """Announce the current state of these users; returns how many users are known and unknown."""

    serializer_class = IdsSerializer

    def answer(self, **params: Any) -> dict[str, Any]:
        known, unknown = handlers.backfill_users(params["ids"])
        return {"known": known, "unknown": unknown}


class BackfillPage(InternalView):
    """Announce the current state of the next users after a key; returns the last key (null at the
    end) and a snapshot that sees the recorded events."""

    serializer_class = BackfillPageSerializer

    def answer(self, **params: Any) -> dict[str, Any]:
        last = handlers.backfill(after=str(params["after"]), limit=params["rows"])
        return {"last": last or None, "snapshot": queries.snapshot()}


class ReservationsPage(InternalView):
    """Return the next orders after a key that hold credit, and the last key (null at the end)."""

    serializer_class = PageSerializer

    def answer(self, **params: Any) -> dict[str, Any]:
        found = [str(id_) for id_ in queries.holding_orders(**params)]
        return {"orders": found, "last": found[-1] if len(found) == params["rows"] else None}


class Reservations(InternalView):
    """Return the status and the user of each order's reservation, how far the events of orders
    were applied before, and a snapshot that sees the reservations' transactions."""

    serializer_class = ReservationsSerializer

    def answer(self, **params: Any) -> dict[str, Any]:
        applied = queries.applied_orders()
        found = queries.reservations(params["ids"]).items()
        return {
            "reservations": {str(id_): [status, user] for id_, (status, user) in found},
            "applied": applied,
            "snapshot": queries.snapshot(),
        }


class OrderStory(InternalView):
    """Return the part of accounts in an order's story."""

    serializer_class = StorySerializer

    def answer(self, **params: Any) -> dict[str, Any]:
        try:
            return storyline.of_order(**params)
        except msgspec.ValidationError as exc:
            raise serializers.ValidationError({"places": [str(exc)]}) from exc
