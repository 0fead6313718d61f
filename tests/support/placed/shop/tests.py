from django.test import TestCase

from .models import Item


class ItemTest(TestCase):
    def test_an_item_is_shown_after_it_was_created(self):
        created = self.client.post("/items/", {"name": "tea"})
        assert "Consistency-Token" in created.headers
        shown = self.client.get("/items/").json()["items"]
        assert shown == [{"id": Item.objects.get().pk, "name": "tea"}]
