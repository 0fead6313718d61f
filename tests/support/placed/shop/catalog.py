from django.core.cache import cache
from django.db import transaction

from .models import Item

LIFE_SECONDS = 300


def rename(pk, name):
    with transaction.atomic():
        item = Item.objects.select_for_update().get(pk=pk)
        item.name, item.version = name, item.version + 1
        item.save()
    cache.invalidate(f"item:{pk}", item.version)  # after the commit
    return item


def cached_name(pk):
    """The name of the item, or None if there is no such item."""
    _, name = cache.get_or_set(f"item:{pk}", lambda: load(pk), LIFE_SECONDS)
    return name


def load(pk):
    """What the cache keeps: a version and a value. It reads the primary."""
    item = Item.objects.using("default").filter(pk=pk).first()
    return (item.version, item.name) if item else (0, None)
