"""Safeguards of reads from replicas (docs/adr/0010-consistency-token.md)."""

from typing import Final

from tests.sabotage.sabotage import Sabotage

PLACEMENT: Final = "tests/integration/placement"
READING: Final = "placement/replicas/reading.py"
ROUTER: Final = "placement/router.py"
REPLICAS: Final = "placement/replicas/watch.py"
MIDDLEWARE: Final = "placement/replicas/middleware.py"
TASKS: Final = "placement/replicas/task_headers.py"
ONE_DATABASE: Final = "tests/unit/placement/test_one_database.py"
LOOKS: Final = "tests/unit/placement/test_replicas.py"

SABOTAGES: Final = (
    Sabotage(
        promise="a replica that hasn't reached the token is not read",
        file=READING,
        old="            elif seen.lsn >= lsn:",
        new="            elif True:",
        test=f"{PLACEMENT}/test_replicas.py"
        "::test_a_client_reads_its_own_write_from_the_primary_while_replay_is_paused",
    ),
    Sabotage(
        promise="after a write the request reads the primary",
        file=READING,
        old="if not self.from_replicas or service in self.written:",
        new="if not self.from_replicas:",
        test=f"{PLACEMENT}/test_orm.py::test_after_a_write_the_request_reads_the_primary",
    ),
    Sabotage(
        promise="a request with a token of another timeline reads the primary",
        file=READING,
        old="if self.unreadable or (part and not _is_of(part, group.origin)):",
        new="if self.unreadable:",
        test=f"{PLACEMENT}/test_replicas.py"
        "::test_an_unusable_token_is_served_by_the_primary_and_replaced",
    ),
    Sabotage(
        promise="a token ahead of the primary is replaced",
        file=READING,
        old="if lsn > group.origin.lsn and _is_in_the_future(service, lsn):",
        new="if False:",
        test=f"{PLACEMENT}/test_replicas.py"
        "::test_an_unusable_token_is_served_by_the_primary_and_replaced",
    ),
    Sabotage(
        promise="a request detects that another server has replaced the replica",
        file=READING,
        old="if seen is None or not seen.in_recovery or seen.system != group.origin.system:",
        new="if seen is None or not seen.in_recovery:",
        test=f"{PLACEMENT}/test_failover.py::test_a_request_detects_a_standby_of_another_cluster",
    ),
    Sabotage(
        promise="a transaction reads the primary",
        file=ROUTER,
        old="if connections[home].in_atomic_block:",
        new="if False:",
        test=f"{PLACEMENT}/test_orm.py::test_a_transaction_reads_the_primary",
    ),
    Sabotage(
        promise="tables that no service owns are read from the primary",
        file=ROUTER,
        old="if now is None or service not in replicas():\n            return home\n"
        "        if needs_primary(model):\n            return home",
        new="if now is None:\n            return home\n"
        '        service = service if service in replicas() else "accounts"',
        test=f"{PLACEMENT}/test_replicas.py::test_contrib_never_reads_a_replica",
    ),
    Sabotage(
        promise="in a project with one database, log-ins are read from the primary",
        file=ROUTER,
        old="        if needs_primary(model):",
        new="        if False:",
        test=f"{ONE_DATABASE}::test_log_ins_and_listed_apps_are_read_on_the_primary",
    ),
    Sabotage(
        promise="apps with the same home share a position in the token",
        file=ROUTER,
        old="now.written.add(service_of(label))",
        new="now.written.add(label)",
        test=f"{ONE_DATABASE}::test_all_apps_share_a_replica_and_a_position",
    ),
    Sabotage(
        promise="another package with the outbox's name isn't used as the outbox",
        file="placement/events.py",
        old="if _is_outbox(name)",
        new='if name.endswith("outbox")',
        test="tests/unit/placement/test_adapter.py"
        "::test_the_outbox_is_the_installed_app_that_has_its_modules",
    ),
    Sabotage(
        promise="a folder with another name works",
        file="placement/ring/__init__.py",
        old='BACKEND: Final = f"{__name__}.cache',
        new='BACKEND: Final = "placement.ring.cache',
        test=f"{PLACEMENT}/test_placed.py::test_the_other_nodes_serve_while_a_node_is_down",
    ),
    Sabotage(
        promise="a replica that lags too far is not used",
        file=REPLICAS,
        old="        if waited > budget_seconds:",
        new="        if False:",
        test=f"{PLACEMENT}/test_replicas.py"
        "::test_a_replica_with_too_much_lag_is_unused_until_it_catches_up",
    ),
    Sabotage(
        promise="a replica on another timeline is not used",
        file=REPLICAS,
        old="    if seen.timeline != origin.timeline:",
        new="    if False:",
        test=f"{LOOKS}::test_a_replica_on_the_old_timeline_is_out_after_a_failover",
    ),
    Sabotage(
        promise="a read that fails on its replica is repeated on the primary",
        file=MIDDLEWARE,
        old="        now.from_replicas = False\n        return _run_view_again(request)",
        new="        return None",
        test=f"{PLACEMENT}/test_replicas.py"
        "::test_a_read_is_repeated_on_the_primary_when_its_replica_dies",
    ),
    Sabotage(
        promise="a row that a replica doesn't have is read from the primary",
        file=MIDDLEWARE,
        old="if response.status_code == NOT_FOUND and now.replicas:",
        new="if False:",
        test=f"{PLACEMENT}/test_replicas.py"
        "::test_a_row_missing_on_the_replica_is_searched_on_the_primary",
    ),
    Sabotage(
        promise="an invalid query ejects no replica",
        file=MIDDLEWARE,
        old="        if _is_server_failure(exception):",
        new="        if True:",
        test=f"{PLACEMENT}/test_replicas.py::test_an_invalid_query_takes_no_replica_out_of_use",
    ),
    Sabotage(
        promise="a task has the token of the request that sent it",
        file=TASKS,
        old="headers.setdefault(KEY, str(now.renewed_token() or now.token))",
        new='headers.setdefault(KEY, "")',
        test=f"{PLACEMENT}/test_tasks.py::test_a_task_reads_the_writes_of_the_request_that_sent_it",
    ),
    Sabotage(
        promise="a commit that a token names is on disk",
        file=MIDDLEWARE,
        old='connection_created.connect(flush_at_commit, dispatch_uid="placement.durability")',
        new="pass",
        test=f"{PLACEMENT}/test_tokens.py"
        "::test_a_write_is_flushed_to_disk_even_if_its_role_disables_the_flush",
    ),
)
