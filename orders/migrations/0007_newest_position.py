from django.db import migrations, models


# Old versions of a position no longer share a key, which a constraint on the partition would be (see
# outbox/consuming/inbox.py). Stop consumers of the release before first: it relies on the constraint.
class Migration(migrations.Migration):
    dependencies = [
        ("orders", "0006_append_and_announce"),
    ]

    operations = [
        migrations.RemoveConstraint(model_name="position", name="orders_one_position"),
        migrations.AddIndex(
            model_name="position",
            index=models.Index(
                fields=["consumer", "producer", "partition", "id"],
                name="orders_newest_position",
            ),
        ),
    ]
