"""The front page, and the explanation of each problem type."""

from collections.abc import Mapping
from typing import Any

from django.conf import settings
from django.contrib.auth.models import AnonymousUser
from django.db import DatabaseError, InterfaceError
from django.http import Http404
from django.utils.decorators import method_decorator
from django.utils.module_loading import import_string
from django.views.decorators.cache import never_cache
from django.views.generic import TemplateView

from . import health
from .flow import snapshot


@method_decorator(never_cache, name="dispatch")
class Front(TemplateView):
    """What this is, how healthy it is, and where to go. Only staff see figures."""

    template_name = "pages/front.html"

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        state = snapshot.ALL.get().state
        parts = health.parts(state)
        level = health.worst(part.level for part in parts)
        is_staff = self._is_staff()
        return super().get_context_data(
            parts=parts,
            level=level,
            summary=health.SUMMARY[level],
            others=[name for name in settings.OUTBOX_PRODUCERS if name not in settings.SERVICES],
            is_staff=is_staff,
            warnings=state["warnings"] if is_staff else [],
            **kwargs,
        )

    def _is_staff(self) -> bool:
        """The page also shows that the database is away, in which the sessions are."""
        try:
            return self.request.user.is_active and self.request.user.is_staff
        except (DatabaseError, InterfaceError):
            self.request.user = AnonymousUser()
            return False


def problem_types() -> Mapping[str, Mapping[str, Any]]:
    """Status, title and explanation of each type that this process can return, by its slug."""
    return dict(import_string(settings.PROBLEM_TYPES)())


class ProblemTypes(TemplateView):
    template_name = "pages/problem_types.html"

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        return super().get_context_data(types=problem_types(), **kwargs)


class ProblemType(TemplateView):
    template_name = "pages/problem_type.html"

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        found = problem_types().get(kwargs["slug"])
        if found is None:
            raise Http404(kwargs["slug"])
        return super().get_context_data(type=found, **kwargs)
