from django.db import migrations, models


# Without the constraint, row versions of a position can have different keys (consuming/inbox.py).
# First stop the consumers of the previous release, because they rely on the constraint.
class Migration(migrations.Migration):
    dependencies = [
        ("accounts", "0003_erasure"),
    ]

    operations = [
        migrations.RemoveConstraint(model_name="position", name="accounts_one_position"),
        migrations.AddIndex(
            model_name="position",
            index=models.Index(
                fields=["consumer", "producer", "partition", "id"],
                name="accounts_newest_position",
            ),
        ),
    ]
