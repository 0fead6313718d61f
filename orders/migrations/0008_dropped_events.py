from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("orders", "0007_newest_position"),
    ]

    operations = [
        migrations.AddField(
            model_name="parkedevent",
            name="dropped_at",
            field=models.DateTimeField(blank=True, null=True),
        ),
        migrations.AddField(
            model_name="parkedevent",
            name="dropped_by",
            field=models.TextField(blank=True, db_default="", default=""),
        ),
        migrations.AddField(
            model_name="parkedevent",
            name="drop_reason",
            field=models.TextField(blank=True, db_default="", default=""),
        ),
        migrations.RemoveIndex(model_name="parkedevent", name="orders_parked_sequence"),
        migrations.AddIndex(
            model_name="parkedevent",
            index=models.Index(
                condition=models.Q(("dropped_at", None)),
                fields=["consumer", "producer", "partition", "key", "id"],
                name="orders_parked_waiting",
            ),
        ),
        migrations.AddIndex(
            model_name="parkedevent",
            index=models.Index(
                condition=models.Q(("dropped_at__isnull", False)),
                fields=["consumer", "producer", "partition", "key"],
                name="orders_parked_dropped",
            ),
        ),
    ]
