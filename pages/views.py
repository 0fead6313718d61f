"""The front page."""

from django.views.generic import TemplateView


class Front(TemplateView):
    template_name = "pages/front.html"
