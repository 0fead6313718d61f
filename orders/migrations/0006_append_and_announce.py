from django.db import migrations

# Appends the events as the function of 0005 does, and adds the outbox rows that announce them, in
# one round trip. The rows are added only if all events were appended. The old function stays,
# because processes of the previous release may still run.
APPEND = migrations.RunSQL(
    """
CREATE FUNCTION orders_append(
    in_stream uuid, expected int, types text[], schema_versions int[], payloads jsonb[],
    origin jsonb, partitions smallint[], bodies text[], OUT held int, OUT appended_in xid8
) LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    held := orders_append(in_stream, expected, types, schema_versions, payloads, origin);
    IF held IS NULL THEN
        FOR n IN 1 .. cardinality(bodies) LOOP
            INSERT INTO orders_outboxevent (partition, body) VALUES (partitions[n], bodies[n]);
        END LOOP;
        appended_in := pg_current_xact_id();
    END IF;
END
$$
""",
    "DROP FUNCTION orders_append(uuid, int, text[], int[], jsonb[], jsonb, smallint[], text[])",
)


class Migration(migrations.Migration):
    dependencies = [
        ("orders", "0005_append"),
    ]

    operations = [APPEND]
