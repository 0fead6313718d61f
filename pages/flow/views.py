"""`/flow/`: the running system for staff, and the same as JSON for the page's script."""

from typing import Any
from urllib.parse import urlencode

from django.conf import settings
from django.contrib import messages
from django.core.exceptions import BadRequest, PermissionDenied
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect, QueryDict
from django.template.defaultfilters import pluralize
from django.urls import reverse
from django.views.generic import TemplateView, View
from drf_spectacular.utils import extend_schema
from rest_framework.permissions import BasePermission
from rest_framework.renderers import JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from ..access import StaffOnly, StaffPoll
from . import history, operations, parked, peers, picture, snapshot, status

State = dict[str, Any]


class SharedJson(StaffPoll, View):
    """Answers with the shared snapshot. Its ETag is the same while nothing changes."""

    shared: snapshot.Shared

    def get(self, request: HttpRequest) -> HttpResponse:
        found = self.shared.get()
        response = HttpResponse(found.body, content_type="application/json")
        response["ETag"] = found.etag
        return response


class StatusJson(SharedJson):
    shared = snapshot.ALL


class HistoryJson(SharedJson):
    shared = snapshot.HISTORY


class IsSigned(BasePermission):
    def has_permission(self, request: Request, view: APIView) -> bool:
        return peers.is_signed(request._request)


class PeerView(APIView):
    """A route for other deployments. The signature is the only credential."""

    authentication_classes = (peers.PeerScheme,)
    permission_classes = (IsSigned,)
    throttle_classes = ()
    renderer_classes = (JSONRenderer,)

    @extend_schema(exclude=True)
    def post(self, request: Request) -> Response:
        return Response(self.shared.get().state)

    shared: snapshot.Shared


class PeerStatus(PeerView):
    shared = snapshot.OWN


class PeerHistory(PeerView):
    shared = snapshot.OWN_HISTORY


class Flow(StaffOnly, TemplateView):
    """The picture, and what needs attention. The page's script keeps it current."""

    template_name = "pages/flow.html"

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        state, hour = snapshot.ALL.get().state, snapshot.HISTORY.get().state
        return super().get_context_data(
            state=state,
            parts=" ".join(sorted(state["states"])),
            history=hour,
            drawings=list(picture.drawings(state)),
            groups=_groups(state),
            readers=list(picture.readers(state, hour)),
            ring=picture.nodes(state),
            words=operations.words_of_flow(),
            window=round(history.EVERY_SECONDS),
            **kwargs,
        )


def _groups(state: State) -> list[State]:
    return [group for each in state["services"].values() for group in each.get("parked", ())]


class Help(StaffOnly, TemplateView):
    template_name = "pages/flow_help.html"

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        return super().get_context_data(
            sections=operations.sections(), glossary=operations.glossary(), **kwargs
        )


class Parked(StaffOnly, TemplateView):
    """The parked sequences by error, and a search."""

    template_name = "pages/flow_parked.html"

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        given = self.request.GET
        words, group = _text(given, "q"), _text(given, "group")
        return super().get_context_data(
            # Not the shared state: another process may have done the action before this page.
            groups=[group for label in settings.SERVICES for group in status.groups_of(label)],
            elsewhere=sorted(peers.others()),
            found=parked.search(words=words, group=group, after=_text(given, "after")),
            words=words,
            group=group,
            read_at_most=parked.READ_AT_MOST,
            **kwargs,
        )


class Act(StaffOnly, TemplateView):
    """Confirms a retry or a drop of a sequence or of a group, then does it."""

    template_name = "pages/flow_act.html"
    verb = ""

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        given = self.request.POST if self.request.method == "POST" else self.request.GET
        selection = self._selection(given)
        place = self._allowed_place(selection)
        upto = _id(given, "upto") or parked.newest(place)
        found = parked.chosen(upto=upto, **selection)
        return super().get_context_data(
            verb=self.verb,
            **selection,
            upto=upto,
            number=len(found.sequences),
            next=found.after,
            examples=found.sequences[:5],
            place=place,
            **kwargs,
        )

    def post(self, request: HttpRequest) -> HttpResponse:
        selection = self._selection(request.POST)
        self._allowed_place(selection)
        reason, upto = _text(request.POST, "reason").strip(), _id(request.POST, "upto")
        if self.verb == "drop" and not reason:
            context = self.get_context_data(problem="Enter the reason.")
            return self.render_to_response(context, status=400)
        if not upto:
            raise BadRequest("upto is missing")
        done = parked.act(self.verb, request.user, reason=reason, upto=upto, **selection)
        for shared in (snapshot.OWN, snapshot.ALL):
            shared.forget()
        past = "applied" if self.verb == "retry" else "dropped"
        result = (
            f"{done.sequences} sequence{pluralize(done.sequences)}: "
            f"{done.events} event{pluralize(done.events)} {past}"
        )
        if done.errors:
            messages.error(request, f"{result}. {len(done.errors)} failed: {done.errors[0]}")
        else:
            messages.success(request, result)
        if done.after:  # the rest, after another confirmation
            rest = {"group": selection["group"], "after": done.after, "upto": upto}
            return HttpResponseRedirect(f"{request.path}?{urlencode(rest)}")
        return HttpResponseRedirect(reverse("pages:flow-parked"))

    def _selection(self, given: QueryDict) -> dict[str, str]:
        found = {name: _text(given, name) for name in ("group", "sequence", "after")}
        if bool(found["group"]) == bool(found["sequence"]):
            raise BadRequest("choose a group or a sequence")
        return found

    def _allowed_place(self, selection: dict[str, str]) -> parked.Place:
        chosen = selection["group"] or selection["sequence"]
        place = parked.place_of(":".join(chosen.split(":")[:3]))
        model = place.consumer.tables.parked._meta
        if not self.request.user.has_perm(f"{model.app_label}.change_{model.model_name}"):
            raise PermissionDenied
        return place


def _text(given: QueryDict, name: str) -> str:
    """Raises BadRequest for text that PostgreSQL can't store."""
    text = given.get(name, "")
    if "\0" in text:
        raise BadRequest(f"{name} has a NUL")
    return text


def _id(given: QueryDict, name: str) -> int:
    found = parked.whole(given.get(name, "0") or "0", at_most=parked.LARGEST)
    if found is None:
        raise BadRequest(f"{name} isn't an id")
    return found
