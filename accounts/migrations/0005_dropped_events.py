from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("accounts", "0004_newest_position"),
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
    ]
