"""Safeguards of the rights on the stream server and in the databases (docs/managed-servers.md)."""

from typing import Final

from tests.sabotage.sabotage import Sabotage

STREAMS: Final = "tests/attacks/test_streams.py"
ROLES: Final = "tests/attacks/test_roles.py"
PROVISION: Final = "tests/integration/placement/test_provision.py"
READER: Final = (
    "tests/integration/outbox/test_reader.py"
    "::test_a_type_that_the_streams_owner_does_not_produce_is_parked_and_never_applied"
)

SABOTAGES: Final = (
    Sabotage(
        invariant=32,
        promise="an event of another service's type is not applied",
        file="outbox/envelope.py",
        old='if producer and not event.type.startswith(f"{producer}."):',
        new="if False:",
        test=READER,
    ),
    Sabotage(
        invariant=32,
        promise="a retry doesn't apply an event of another service's type",
        file="outbox/consuming/parking.py",
        old="Envelope.decode(event.body, producer=self._producer)",
        new="Envelope.decode(event.body)",
        test=READER,
    ),
    Sabotage(
        invariant=33,
        promise="a service only reads the streams of another",
        file="outbox/keys.py",
        old='f"%R~{{{other}}}:events:*"',
        new='f"~{{{other}}}:events:*"',
        test=f"{STREAMS}::test_a_service_can_write_no_key_of_the_other",
    ),
    Sabotage(
        invariant=33,
        promise="a service only adds names to the subscribers of another",
        file="outbox/keys.py",
        old='rights.append(f"(+sadd %W~{subscribers(other)})")',
        new='rights.append(f"~{subscribers(other)}")',
        test=f"{STREAMS}::test_a_service_can_only_subscribe_and_confirm_at_the_other",
    ),
    Sabotage(
        invariant=33,
        promise="a service confirms only for its own consumers",
        file="outbox/streams/client.py",
        old="if is_readable and service_of(subscriber) == by:",
        new="if is_readable:",
        test=f"{STREAMS}::test_a_forged_confirmation_for_another_service_is_ignored",
    ),
    Sabotage(
        invariant=33,
        promise="a service can't invent any number of subscribers",
        file="outbox/publishing/retention.py",
        old="            if numbers[service_of(name)] > MOST_SUBSCRIBERS:\n",
        new="            if False:\n",
        test="tests/integration/outbox/test_retention.py"
        "::test_invented_subscribers_of_a_service_are_bounded",
    ),
    Sabotage(
        invariant=33,
        promise="a relay checks its rights at its start",
        file="outbox/publishing/relay.py",
        old="    streams.check_rights(tables.label)\n",
        new="",
        test=f"{STREAMS}::test_a_relay_without_the_rights_of_its_service_says_so_at_its_start",
    ),
    Sabotage(
        promise="a service's user has no right to run administrative commands",
        file="outbox/keys.py",
        old='rights = ["resetkeys", "resetchannels", "-@all", ',
        new='rights = ["resetkeys", "resetchannels", "+@all", ',
        test=f"{STREAMS}::test_no_user_may_change_the_server",
    ),
    Sabotage(
        promise="a user of the broker has only the keys of its deployment",
        file="stack/users.py",
        old='f"~{prefix}*"',
        new='"~*"',
        test=f"{STREAMS}::test_a_user_of_the_broker_has_only_the_queues_of_its_deployment",
    ),
    Sabotage(
        promise="a deployment sends tasks to its own queues",
        file="config/settings/work.py",
        old='f"broker:{_env.service}:",',
        new='"",',
        test=f"{STREAMS}::"
        "test_the_broker_has_a_prefix_of_the_deployment_and_workers_obey_no_message",
    ),
    Sabotage(
        promise="no message controls a worker",
        file="config/settings/work.py",
        old="CELERY_WORKER_ENABLE_REMOTE_CONTROL = False",
        new="CELERY_WORKER_ENABLE_REMOTE_CONTROL = True",
        test=f"{STREAMS}::"
        "test_the_broker_has_a_prefix_of_the_deployment_and_workers_obey_no_message",
    ),
    Sabotage(
        promise="an append-only table is append-only for the runtime role",
        file="placement/provision.py",
        old="GRANT {', '.join(wanted)} ON",
        new="GRANT SELECT, INSERT, UPDATE, DELETE ON",
        test=f"{PROVISION}"
        "::test_a_table_that_its_owner_cannot_change_is_append_only_for_the_service",
    ),
    Sabotage(
        promise="a table that a migration makes append-only never was anything else",
        file="placement/provision.py",
        old="{on_new} SELECT, INSERT ON TABLES",
        new="{on_new} SELECT, INSERT, UPDATE, DELETE ON TABLES",
        test=f"{PROVISION}::test_a_new_table_is_readable_and_changeable_only_after_the_migrations",
    ),
    Sabotage(
        promise="a reader can't read the sessions and passwords of staff",
        file="placement/provision.py",
        old='reader_of(service): (["SELECT"], f"{service}_"),',
        new='reader_of(service): (["SELECT"], ""),',
        test=f"{ROLES}::test_a_reader_reads_only_the_tables_that_replicas_serve",
    ),
    Sabotage(
        promise="a reader has no right to write",
        file="placement/provision.py",
        old='reader_of(service): (["SELECT"], f"{service}_"),',
        new='reader_of(service): (["INSERT", "SELECT"], f"{service}_"),',
        test=f"{ROLES}::test_a_reader_only_reads",
    ),
    Sabotage(
        promise="only the roles of a service use its schema",
        file="placement/provision.py",
        old='"GRANT USAGE ON SCHEMA {} TO {}", service, role',
        new='"GRANT USAGE ON SCHEMA {} TO PUBLIC", service',
        test=f"{PROVISION}::test_a_service_has_no_access_outside_its_own_schema",
    ),
    Sabotage(
        promise="one service can't use up the connections of the other",
        file="placement/provision.py",
        old="CONNECTIONS: Final = 80  # of",
        new="CONNECTIONS: Final = 100  # of",
        test=f"{ROLES}::test_both_services_can_open_all_their_connections",
    ),
    Sabotage(
        promise="a role loses the settings that an intruder made",
        file="placement/provision.py",
        old="    _clear(cursor, role)\n",
        new="",
        test=f"{PROVISION}::test_a_role_loses_the_settings_and_memberships_of_an_intruder",
    ),
    Sabotage(
        promise="a check reports a right to change the history of users",
        file="accounts/apps.py",
        old="        checks.register(check_history, checks.Tags.database)\n",
        new="",
        test="tests/attacks/accounts/test_history.py"
        "::test_the_system_check_reports_each_right_to_change_the_history",
    ),
    Sabotage(
        promise="a check reports the rights of each role that a role could take",
        file="placement/checks.py",
        old="r ON pg_has_role(r.oid, 'MEMBER')",
        new="r ON r.rolname = current_user",
        test="tests/attacks/accounts/test_history.py"
        "::test_the_check_reports_rights_that_a_role_could_take",
    ),
    Sabotage(
        promise="no role of a service connects to another database",
        file="placement/provision.py",
        old="        _close_maintenance_databases(cursor)\n",
        new="",
        test="tests/attacks/test_roles.py::test_a_role_cannot_connect_to_other_databases",
    ),
    Sabotage(
        promise="the sessions of a reader are read-only",
        file="placement/provision.py",
        old='settings |= {"default_transaction_read_only": "on"}',
        new="pass",
        test=f"{PROVISION}"
        "::test_the_roles_of_a_service_have_their_settings_and_limits_and_no_attributes",
    ),
    Sabotage(
        promise="a role has a limit for its connections",
        file="placement/provision.py",
        old='" CONNECTION LIMIT {}",',
        new='" /* {} */",',
        test=f"{PROVISION}"
        "::test_the_roles_of_a_service_have_their_settings_and_limits_and_no_attributes",
    ),
    Sabotage(
        promise="a database of an earlier release gets owners",
        file="placement/provision.py",
        old='_run(cursor, "REASSIGN OWNED BY {} TO {}", service, owner)',
        new="pass",
        test=f"{PROVISION}::test_a_database_of_an_earlier_release_gets_owners",
    ),
    Sabotage(
        promise="the check of the event store reports the right to truncate it",
        file="placement/checks.py",
        old="         (3, 'TRUNCATE', has_table_privilege(r.oid, c.oid, 'TRUNCATE')),\n",
        new="",
        test="tests/integration/orders/test_event_store.py::"
        "test_the_system_check_reports_each_right_to_change_events",
    ),
    Sabotage(
        promise="a forgotten user's history is erased by the owner alone",
        file="accounts/erasure.py",
        old='with tables.of("accounts").as_owner(), transaction.atomic',
        new="with transaction.atomic",
        test="tests/integration/together/test_forgetting.py::"
        "test_nothing_of_a_forgotten_user_is_left_anywhere",
    ),
    Sabotage(
        promise="a process waits until its role has all rights to a new table",
        file="placement/provision.py",
        old="    return [table for (table,) in cursor.fetchall()]\n",
        new="    return []\n",
        test=f"{PROVISION}::test_a_new_table_is_readable_and_changeable_only_after_the_migrations",
    ),
    Sabotage(
        invariant=33,
        promise="invented subscribers cost the producer bounded memory",
        file="outbox/streams/client.py",
        old="islice(scan, MOST_SERVICES + 1)",
        new="scan",
        test="tests/attacks/test_streams.py"
        "::test_a_producer_reads_a_bounded_number_of_invented_names",
    ),
    Sabotage(
        invariant=33,
        promise="invented names hide no subscriber",
        file="outbox/publishing/retention.py",
        old="subscribers=known",
        new="subscribers=()",
        test="tests/integration/outbox/test_retention.py::test_invented_fields_hide_no_subscriber",
    ),
)
