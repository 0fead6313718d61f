from django.db import migrations, models


class Migration(migrations.Migration):
    initial = True

    dependencies = []

    operations = [
        migrations.CreateModel(
            name="Attempts",
            fields=[
                ("key", models.CharField(max_length=64, primary_key=True, serialize=False)),
                ("count", models.PositiveIntegerField()),
                (
                    "ends_at",
                    models.DateTimeField(db_index=True, help_text="The end of the period."),
                ),
            ],
            options={
                "default_permissions": (),
            },
        ),
    ]
