from django.db import migrations, models


# Without the constraint, row versions of a position can have different keys (consuming/inbox.py).
# First stop the consumers of the previous release, because they rely on the constraint.
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
