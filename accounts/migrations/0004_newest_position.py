from django.db import migrations, models


# From now on a move gives the row a new id, which a constraint on the partition would make slow (see
# outbox/inbox.py). Stop consumers of the release before first: it relies on the constraint.
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
