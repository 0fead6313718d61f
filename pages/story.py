"""The story of an order as a page."""

from typing import Any

from django.conf import settings
from django.http import Http404
from django.utils.module_loading import import_string
from django.views.generic import TemplateView

from .access import StaffOnly


class Story(StaffOnly, TemplateView):
    """Shows the steps of an order over both services. `settings.STORY` names its source."""

    template_name = "pages/story.html"

    def get_context_data(self, **context: Any) -> dict[str, Any]:
        story = import_string(settings.STORY)(context["order_id"], for_staff=True)
        if story is None:
            raise Http404
        return super().get_context_data(story=story, **context)
