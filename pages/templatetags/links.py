"""Links to pages of this deployment and of others. A tag returns '' if there is no such page."""

from django import template

from .. import links

register = template.Library()

register.simple_tag(links.parked, name="parked_url")
register.simple_tag(links.row, name="row_url")
register.simple_tag(links.story, name="story_url")
