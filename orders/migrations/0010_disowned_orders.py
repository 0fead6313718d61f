from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("orders", "0009_parked_indexes"),
    ]

    operations = [
        migrations.AlterField(
            model_name="orderview",
            name="status",
            field=models.CharField(
                choices=[
                    ("PENDING", "Pending"),
                    ("CONFIRMED", "Confirmed"),
                    ("REJECTED", "Rejected"),
                    ("CANCELLED", "Cancelled"),
                    ("EXPIRED", "Expired"),
                    ("DISOWNED", "Disowned"),
                ],
                max_length=9,
            ),
        ),
    ]
