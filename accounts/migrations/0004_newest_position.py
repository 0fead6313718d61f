from django.db import migrations, models


# Old versions of a position no longer share a key, which a constraint on the partition would be (see
# outbox/consuming/inbox.py). Stop consumers of the release before first: it relies on the constraint.
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
