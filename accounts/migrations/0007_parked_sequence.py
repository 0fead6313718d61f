from django.contrib.postgres.operations import RemoveIndexConcurrently
from django.db import migrations


# The only operation: if it fails, the next run of migrate doesn't build the new indexes again.
class Migration(migrations.Migration):
    atomic = False

    dependencies = [
        ("accounts", "0006_parked_indexes"),
    ]

    operations = [
        RemoveIndexConcurrently(model_name="parkedevent", name="accounts_parked_sequence"),
    ]
