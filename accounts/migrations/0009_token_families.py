import uuid

import django.db.models.deletion
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("accounts", "0008_reservation_xids"),
    ]

    operations = [
        migrations.CreateModel(
            name="TokenFamily",
            fields=[
                (
                    "id",
                    models.UUIDField(
                        default=uuid.uuid4, editable=False, primary_key=True, serialize=False
                    ),
                ),
                ("turn", models.PositiveIntegerField(default=1)),
                ("started_at", models.DateTimeField()),
                ("ends_at", models.DateTimeField(help_text="No token is valid after this time.")),
                (
                    "user",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="+",
                        to="accounts.user",
                    ),
                ),
            ],
            options={
                "verbose_name_plural": "token families",
                "default_permissions": (),
            },
        ),
    ]
