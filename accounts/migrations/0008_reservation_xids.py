from django.db import migrations

import outbox.fields


# The columns are null in older rows: a default would rewrite the table, with a wrong value.
class Migration(migrations.Migration):
    dependencies = [
        ("accounts", "0007_parked_sequence"),
    ]

    operations = [
        migrations.AddField(
            model_name="reservation",
            name="decided_xid",
            field=outbox.fields.Xid8Field(editable=False, null=True),
        ),
        migrations.AddField(
            model_name="reservation",
            name="released_xid",
            field=outbox.fields.Xid8Field(editable=False, null=True),
        ),
    ]
