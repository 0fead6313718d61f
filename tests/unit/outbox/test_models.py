from django.db import models
from django.test import override_settings
from django.test.utils import isolate_apps

from outbox import tables


@isolate_apps()
@override_settings(DEFAULT_AUTO_FIELD="django.db.models.AutoField")
def test_generated_ids_have_64_bits_at_any_default_of_the_project() -> None:
    # A move can use up an id, and a busy consumer moves thousands of times a second.
    for name, base in tables.BASES.items():
        meta = type("Meta", (), {"app_label": "somewhere"})
        model = type(name, (base,), {"__module__": __name__, "Meta": meta})
        assert type(model._meta.pk) is not models.AutoField, name
