from django.db import migrations

# Appends all events or none. There is no unique violation, which would abort the caller's
# transaction: the second of two appends waits for the first, and then inserts nothing. The function
# also compares the version, so no append leaves a gap, and version N is committed before N + 1 is
# appended. The outbox's order of ids depends on this (docs/outbox.md). Only the first event can be
# refused: until it is committed, no other transaction can append after it. The SELECT at the end is
# a separate statement, because the INSERT doesn't see the row that it waited for.
#
# It is a function because a session keeps a function's plans: planning took longer than inserting.
APPEND = migrations.RunSQL(
    """
CREATE FUNCTION orders_append(
    in_stream uuid, expected int, types text[], schema_versions int[], payloads jsonb[],
    origin jsonb
) RETURNS int LANGUAGE plpgsql VOLATILE AS $$
BEGIN
    FOR n IN 1 .. cardinality(types) LOOP
        INSERT INTO orders_storedevent
               (stream, version, type, schema_version, data, metadata)
        SELECT in_stream, expected + n, types[n], schema_versions[n], payloads[n], origin
         WHERE expected + n - 1 = (
                   SELECT coalesce(max(version), 0) FROM orders_storedevent
                    WHERE stream = in_stream
               )
            ON CONFLICT (stream, version) DO NOTHING;
        IF NOT FOUND THEN
            RETURN (
                SELECT coalesce(max(version), 0) FROM orders_storedevent WHERE stream = in_stream
            );
        END IF;
    END LOOP;
    RETURN NULL;
END
$$
""",
    "DROP FUNCTION orders_append(uuid, int, text[], int[], jsonb[], jsonb)",
)


class Migration(migrations.Migration):
    dependencies = [
        ("orders", "0004_old_answers"),
    ]

    operations = [APPEND]
