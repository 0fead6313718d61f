from django.contrib.postgres.operations import AddIndexConcurrently
from django.db import migrations, models


# Consumers park events while the indexes are built, so it isn't one transaction. A build that fails,
# for example because another transaction stays open for 10 s, leaves an invalid index: run migrate
# again. Until then, queries use the previous index, which a later migration removes.
class Migration(migrations.Migration):
    atomic = False

    dependencies = [
        ("orders", "0008_dropped_events"),
    ]

    operations = [
        migrations.RunSQL(
            "DROP INDEX CONCURRENTLY IF EXISTS orders_parked_waiting", migrations.RunSQL.noop
        ),
        AddIndexConcurrently(
            model_name="parkedevent",
            index=models.Index(
                condition=models.Q(("dropped_at", None)),
                fields=["consumer", "producer", "partition", "key", "id"],
                name="orders_parked_waiting",
            ),
        ),
        migrations.RunSQL(
            "DROP INDEX CONCURRENTLY IF EXISTS orders_parked_dropped", migrations.RunSQL.noop
        ),
        AddIndexConcurrently(
            model_name="parkedevent",
            index=models.Index(
                condition=models.Q(("dropped_at__isnull", False)),
                fields=["consumer", "producer", "partition", "key"],
                name="orders_parked_dropped",
            ),
        ),
    ]
