from django.db import migrations

# All events, or none, and never a unique violation, which would spoil the caller's transaction.
# Whoever comes second waits for the first and then inserts nothing. The version is compared too,
# so a gap can't be appended, and who appends N + 1 has seen N committed: the outbox's order of ids
# rests on that (docs/outbox.md). Only the first event can be refused: nobody else sees it yet, so
# nobody can follow it. The look at the end is a statement of its own, since the INSERT doesn't see
# what it waited for.
#
# A function, because its plans are kept for the session: planning took longer than inserting.
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
