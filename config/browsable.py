"""The pages of the API. This module must not import DRF's views, which import it."""

from collections.abc import Mapping
from typing import Any

from django.conf import settings
from rest_framework.renderers import BrowsableAPIRenderer

from config import csp


class BrowsableAPI(BrowsableAPIRenderer):
    """DRF's templates contain inline styles, so the pages have a policy of their own."""

    def render(
        self,
        data: Any,
        accepted_media_type: str | None = None,
        renderer_context: Mapping[str, Any] | None = None,
    ) -> str:
        context = renderer_context or {}
        context["response"].headers[csp.HEADER] = csp.policy(settings.CSP_OF_BROWSABLE_API)
        return super().render(data, accepted_media_type, context)
