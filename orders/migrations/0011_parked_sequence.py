from django.contrib.postgres.operations import RemoveIndexConcurrently
from django.db import migrations


# The only operation: if it fails, the next run of migrate doesn't build the new indexes again.
class Migration(migrations.Migration):
    atomic = False

    dependencies = [
        ("orders", "0010_disowned_orders"),
    ]

    operations = [
        RemoveIndexConcurrently(model_name="parkedevent", name="orders_parked_sequence"),
    ]
