"""What other services may ask about users, to compare and mend their copies. Never for users.

All are POST, since a question may name a thousand users; only `reannounce` and `retell` change
anything, and may be repeated.
"""

from typing import Any

from drf_spectacular.utils import extend_schema
from rest_framework import serializers
from rest_framework.parsers import JSONParser
from rest_framework.renderers import JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from outbox.agreeing.checksums import BUCKETS, FIRST

from .. import handlers, queries
from .peers import IsPeer, PeerAuthentication

MOST_ROWS = 200_000  # of one answer about buckets: a second of work
MOST_STAMPS = 5_000
MOST_TOLD = 1_000

SNAPSHOT = r"^[0-9]{1,20}:[0-9]{1,20}:([0-9]{1,20}(,[0-9]{1,20})*)?$"


class PageQuestion(serializers.Serializer[Any]):
    after = serializers.UUIDField(default=FIRST)
    rows = serializers.IntegerField(min_value=1, max_value=MOST_ROWS)


class StampsQuestion(serializers.Serializer[Any]):
    """Users by id, or those of some buckets of a page."""

    ids = serializers.ListField(child=serializers.UUIDField(), max_length=MOST_STAMPS, default=None)
    after = serializers.UUIDField(default=FIRST)
    upto = serializers.UUIDField(default=None, allow_null=True)
    buckets = serializers.ListField(
        child=serializers.IntegerField(min_value=0, max_value=BUCKETS - 1), default=list
    )


class PublishedQuestion(serializers.Serializer[Any]):
    snapshot = serializers.RegexField(SNAPSHOT, max_length=10_000)
    by = serializers.RegexField(SNAPSHOT, max_length=10_000, allow_blank=True)


class ReannounceQuestion(serializers.Serializer[Any]):
    ids = serializers.ListField(child=serializers.UUIDField(), min_length=1, max_length=MOST_TOLD)


class RetellQuestion(serializers.Serializer[Any]):
    after = serializers.UUIDField(default=FIRST)
    rows = serializers.IntegerField(min_value=1, max_value=MOST_TOLD)


class InternalView(APIView):
    authentication_classes = (PeerAuthentication,)
    permission_classes = (IsPeer,)
    throttle_classes = ()
    parser_classes = (JSONParser,)
    renderer_classes = (JSONRenderer,)
    question: type[serializers.Serializer[Any]]

    @extend_schema(exclude=True)
    def post(self, request: Request) -> Response:
        asked = self.question(data=request.data)
        asked.is_valid(raise_exception=True)
        return Response(self.answer(asked.validated_data))

    def answer(self, asked: dict[str, Any]) -> dict[str, Any]:
        raise NotImplementedError


class Page(InternalView):
    """The next page above a key: its last key (null at the end), and its buckets."""

    question = PageQuestion

    def answer(self, asked: dict[str, Any]) -> dict[str, Any]:
        last = queries.CHECKSUMS.end_of_page(**asked)
        sums = queries.CHECKSUMS.sums(after=asked["after"], upto=last) if last else {}
        return {"last": str(last) if last else None, "buckets": list(sums.items())}


class Stamps(InternalView):
    """Version and checksum of single users, and a snapshot that saw all that they came of."""

    question = StampsQuestion

    def answer(self, asked: dict[str, Any]) -> dict[str, Any]:
        if asked["ids"] is None:
            page = {name: asked[name] for name in ("after", "upto", "buckets")}
            found = queries.CHECKSUMS.within(**page, limit=MOST_STAMPS)
        else:
            found = queries.CHECKSUMS.of(asked["ids"])
        return {
            "stamps": {str(id_): stamp for id_, stamp in found.items()},
            "snapshot": queries.snapshot(),
        }


class Published(InternalView):
    """Whether all that one snapshot saw had been published when the streams told the other."""

    question = PublishedQuestion

    def answer(self, asked: dict[str, Any]) -> dict[str, Any]:
        return {"published": queries.is_published(asked["snapshot"], by=asked["by"])}


class Reannounce(InternalView):
    """Have these users' state told once more."""

    question = ReannounceQuestion

    def answer(self, asked: dict[str, Any]) -> dict[str, Any]:
        told, nobody = handlers.reannounce_users(asked["ids"])
        return {"told": told, "nobody": nobody}


class Retell(InternalView):
    """Have the next users above a key told once more: the last one's key (null at the end), and a
    snapshot that saw what was recorded."""

    question = RetellQuestion

    def answer(self, asked: dict[str, Any]) -> dict[str, Any]:
        last = handlers.reannounce(after=str(asked["after"]), limit=asked["rows"])
        return {"last": last or None, "snapshot": queries.snapshot()}
