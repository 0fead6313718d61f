"""The front page, and the explanation of each problem type."""

from collections.abc import Mapping
from typing import Any

from django.conf import settings
from django.http import Http404
from django.utils.module_loading import import_string
from django.views.generic import TemplateView


class Front(TemplateView):
    template_name = "pages/front.html"


def problem_types() -> Mapping[str, Mapping[str, Any]]:
    """Status, title and explanation of each type that this process can return, by its slug."""
    return dict(import_string(settings.PROBLEM_TYPES)())


class ProblemTypes(TemplateView):
    template_name = "pages/problem_types.html"

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        return super().get_context_data(types=problem_types(), **kwargs)


class ProblemType(TemplateView):
    template_name = "pages/problem_type.html"

    def get_context_data(self, *, slug: str, **kwargs: Any) -> dict[str, Any]:
        try:
            found = problem_types()[slug]
        except KeyError as exc:
            raise Http404(slug) from exc
        return super().get_context_data(slug=slug, type=found, **kwargs)
