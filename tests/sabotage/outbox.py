"""Safeguards of the outbox. The numbers are those of the invariants in docs/outbox.md."""

from typing import Final

from tests.sabotage.sabotage import Sabotage

OUTBOX: Final = "tests/integration/outbox"

SABOTAGES: Final = (
    Sabotage(
        invariant=25,
        promise="a shadow follows from the end of its tick",
        file="outbox/rebuilding/sources.py",
        old='f"{tick.pk}-{WHOLE}"',
        new='f"{tick.pk + 86_400_000}-{WHOLE}"',
        test="tests/integration/orders/test_rebuild.py"
        "::test_two_versions_follow_side_by_side_until_they_are_swapped",
    ),
    Sabotage(
        invariant=25,
        promise="retention waits for a rebuild",
        file="outbox/rebuilding/sources.py",
        old="self._subscription.update(confirmed=tick.pk)",
        new="self._subscription.delete()",
        test="tests/integration/orders/test_rebuild.py"
        "::test_retention_is_held_at_the_tick_until_the_swap",
    ),
    Sabotage(
        invariant=25,
        promise="a shadow that lacks what was pruned begins anew",
        file="outbox/rebuilding/sources.py",
        old="order(entry) >= floor for entry in entries",
        new="entry for entry in entries",
        test="tests/integration/together/test_rebuild.py"
        "::test_a_rebuild_that_misses_pruned_entries_starts_over",
    ),
    Sabotage(
        invariant=25,
        promise="what was parked and is replayed reaches the shadow too",
        file="outbox/rebuilding/follower.py",
        old="        self._apply_replayed()\n        reached",
        new="        reached",
        test="tests/integration/orders/test_rebuild.py"
        "::test_an_event_is_parked_for_both_versions_and_applied_when_retried",
    ),
    Sabotage(
        invariant=26,
        promise="a projection has what its positions have reached",
        file="outbox/agreeing/awaiting.py",
        old="return Answer.REACHED if not _behind(held, self._tops) else Answer.BEHIND",
        new="return Answer.REACHED",
        test="tests/integration/orders/test_own_writes.py"
        "::test_a_list_that_stays_behind_is_503_with_retry_after",
    ),
    Sabotage(
        invariant=26,
        promise="a transaction is published once the snapshot sees it",
        file="outbox/agreeing/awaiting.py",
        old="return Answer.REACHED if sees(cursor.snapshot, recorded.xid) else Answer.BEHIND",
        new="return Answer.REACHED",
        test="tests/unit/outbox/test_awaiting.py"
        "::test_only_a_part_of_the_same_history_is_waited_for",
    ),
    Sabotage(
        invariant=29,
        promise="events that are ignored move the position a moment later",
        file="outbox/consuming/reader.py",
        old="if self._passed and time.monotonic() >= self._move_at:",
        new="if False:",
        test=f"{OUTBOX}/test_reader.py"
        "::test_events_that_are_ignored_move_the_positions_a_moment_later",
    ),
    Sabotage(
        invariant=29,
        promise="a position moves past ignored events to the one that is applied",
        file="outbox/consuming/reader.py",
        old="ends = self._passed | {",
        new="ends = {",
        test=f"{OUTBOX}/test_reader.py"
        "::test_events_that_are_ignored_are_passed_with_the_next_one_that_is_not",
    ),
    Sabotage(
        invariant=29,
        promise="an ignored event is not parked",
        file="outbox/consuming/reader.py",
        old="            if self._is_ignored(delivery):\n                continue\n",
        new="",
        test=f"{OUTBOX}/test_reader.py::test_an_ignored_event_is_not_parked_behind_one_that_fails",
    ),
    Sabotage(
        invariant=1,
        promise="an event is recorded inside the transaction of its change",
        file="outbox/recorder.py",
        old="if not connection.in_atomic_block:",
        new="if False:",
        test=f"{OUTBOX}/test_recorder.py::test_an_event_needs_a_transaction",
    ),
    Sabotage(
        invariant=2,
        promise="the aggregate is written before its event is recorded",
        file="accounts/handlers.py",
        old='User.objects.filter(pk=row.pop("id")).update(**row, **secrets)\n'
        "            _announce(event)",
        new="_announce(event)\n"
        '            User.objects.filter(pk=row.pop("id")).update(**row, **secrets)',
        test="tests/integration/accounts/test_users.py"
        "::test_the_row_is_written_before_the_event_is_recorded",
    ),
    Sabotage(
        invariant=2,
        promise="an append that is refused records nothing",
        file="orders/migrations/0006_append_and_announce.py",
        old="    IF held IS NULL THEN",
        new="    IF true THEN",
        test="tests/integration/orders/test_event_store.py"
        "::test_of_concurrent_appends_exactly_one_wins",
    ),
    Sabotage(
        invariant=2,
        promise="ids are handed out one at a time",
        file="outbox/checks.py",
        old="if row and row[0] != 1:",
        new="if False:",
        test=f"{OUTBOX}/test_commands.py::test_ids_that_are_handed_out_in_advance_are_an_error",
    ),
    Sabotage(
        invariant=3,
        promise="a row that commits late is in the next batch",
        file="outbox/publishing/statements.py",
        old="WHERE pg_visible_in_snapshot(open.xid, %(snapshot)s::pg_snapshot)",
        new="WHERE false AND pg_visible_in_snapshot(open.xid, %(snapshot)s::pg_snapshot)",
        test=f"{OUTBOX}/test_ticks.py::test_a_row_that_commits_late_is_not_skipped",
    ),
    Sabotage(
        invariant=3,
        promise="a row that isn't committed waits for its own batch",
        file="outbox/publishing/statements.py",
        old="    AND pg_visible_in_snapshot(xid, %(snapshot)s::pg_snapshot)\n",
        new="",
        test=f"{OUTBOX}/test_ticks.py"
        "::test_an_open_transaction_holds_back_nothing_but_its_own_rows",
    ),
    Sabotage(
        invariant=3,
        promise="a batch is ordered by row id, not by transaction id",
        file="outbox/publishing/statements.py",
        old="ON e.ctid = sorted.place ORDER BY sorted.id",
        new="ON e.ctid = sorted.place ORDER BY e.xid, sorted.id",
        test=f"{OUTBOX}/test_ticks.py"
        "::test_an_aggregate_keeps_its_order_though_its_first_writer_has_the_younger_id",
    ),
    Sabotage(
        invariant=4,
        promise="no two ticks follow the same one",
        file="accounts/migrations/0001_initial.py",
        old='("prev", models.BigIntegerField(null=True, unique=True))',
        new='("prev", models.BigIntegerField(null=True))',
        test=f"{OUTBOX}/test_ticks.py::test_two_ticks_never_follow_the_same_one",
    ),
    Sabotage(
        invariant=4,
        promise="tick ids rise when the clock goes back",
        file="outbox/publishing/statements.py",
        old="greatest(last.id + 1, %(clock)s)",
        new="%(clock)s",
        test=f"{OUTBOX}/test_ticks.py::test_a_clock_that_goes_back_does_not_turn_the_ids",
    ),
    Sabotage(
        invariant=5,
        promise="a tick is on disk before it is published",
        file="outbox/publishing/relay.py",
        old="SET synchronous_commit = on;\n",
        new="",
        test=f"{OUTBOX}/test_sessions.py"
        "::test_the_relay_commits_durably_whatever_the_service_has_chosen_for_itself",
    ),
    Sabotage(
        invariant=6,
        promise="an entry's id is made of its tick and its row",
        file="outbox/streams/scripts.py",
        old="local key, id = KEYS[entries[i] + 2], ARGV[6] .. '-' .. entries[i + 1]",
        new="local key, id = KEYS[entries[i] + 2], ARGV[6] .. '-' .. i",
        test=f"{OUTBOX}/test_relay.py::test_an_entry_id_tells_its_tick_and_its_row",
    ),
    Sabotage(
        invariant=6,
        promise="a row's id is never a number to Lua, which would round it",
        file="outbox/streams/client.py",
        old="((partition, str(row), body) for row",
        new="((partition, row, body) for row",
        test=f"{OUTBOX}/test_streams.py::test_the_largest_row_id_and_any_text_arrive_as_they_are",
    ),
    Sabotage(
        invariant=6,
        promise="an entry that is there already is no error",
        file="outbox/streams/scripts.py",
        old="if not string.find(added.err, 'equal or smaller', 1, true) then return added end",
        new="return added",
        test=f"{OUTBOX}/test_relay.py::test_a_lost_cursor_alone_repeats_nothing",
    ),
    Sabotage(
        invariant=7,
        promise="the script compares the cursor before it writes",
        file="outbox/streams/scripts.py",
        old="if (held[1] or '') ~= ARGV[1] then return {'CURSOR', held[1] or ''} end",
        new="",
        test=f"{OUTBOX}/test_relay.py::test_a_flush_between_two_chunks_loses_nothing",
    ),
    Sabotage(
        invariant=8,
        promise="a stream that is gone is noticed and sent again",
        file="outbox/streams/scripts.py",
        old="return {'LOST', KEYS[i]} end",
        new="end",
        test=f"{OUTBOX}/test_relay.py::test_one_lost_stream_is_sent_again_beside_the_others",
    ),
    Sabotage(
        invariant=8,
        promise="a stranger's entry isn't taken for ours",
        file="outbox/streams/scripts.py",
        old="if #redis.call('XRANGE', key, id, id) == 0 then return {'FOREIGN', key} end",
        new="",
        test=f"{OUTBOX}/test_relay.py"
        "::test_a_strangers_entry_in_the_way_is_removed_and_nothing_of_ours_is_lost",
    ),
    Sabotage(
        invariant=9,
        promise="a server that may evict is refused",
        file="outbox/streams/client.py",
        old='if (found := policy.get("maxmemory-policy")) != "noeviction":',
        new='if (found := policy.get("maxmemory-policy")) is None:',
        test=f"{OUTBOX}/test_streams.py::test_a_server_that_may_evict_is_refused",
    ),
    Sabotage(
        invariant=9,
        promise="nothing is published to the streams of another database",
        file="outbox/publishing/relay.py",
        old="        if bridge is None:",
        new="        bridge = bridge or first[0]\n        if bridge is None:",
        test=f"{OUTBOX}/test_relay.py::test_a_cursor_of_another_database_publishes_nothing",
    ),
    Sabotage(
        invariant=9,
        promise="the number of partitions stays what it was",
        file="outbox/publishing/relay.py",
        old="if found != value:",
        new="if False:",
        test=f"{OUTBOX}/test_relay.py"
        "::test_another_number_of_partitions_than_the_service_began_with_is_refused",
    ),
    Sabotage(
        invariant=10,
        promise="a consumer is given nothing beyond the cursor",
        file="outbox/streams/client.py",
        old="if order(entry.id) <= top:",
        new="if True:",
        test=f"{OUTBOX}/test_streams.py::test_an_entry_beyond_the_cursor_is_not_given_to_consumers",
    ),
    Sabotage(
        invariant=11,
        promise="effects and positions are one transaction",
        file="outbox/consuming/reader.py",
        old="with transaction.atomic(using=self._tables.alias):\n"
        "            parked = self._inbox.move({p: (self._positions[p], end) "
        "for p, end in ends.items()})",
        new="parked = self._inbox.move({p: (self._positions[p], end) for p, end in ends.items()})\n"
        "        with transaction.atomic(using=self._tables.alias):",
        test=f"{OUTBOX}/test_reader.py"
        "::test_a_batch_that_fails_leaves_neither_effects_nor_positions",
    ),
    Sabotage(
        invariant=11,
        promise="a transaction that a caught error has ended isn't taken for a commit",
        file="outbox/consuming/reader.py",
        old="return connection.needs_rollback or status == ABORTED",
        new="return False",
        test=f"{OUTBOX}/test_reader.py"
        "::test_an_event_whose_handler_caught_what_ended_its_transaction_is_parked_not_lost",
    ),
    Sabotage(
        invariant=12,
        promise="a position moves only from where the batch was read after",
        file="outbox/consuming/inbox.py",
        old='"WHERE held.ctid = newest.place AND held.entry = move.expected "',
        new='"WHERE held.ctid = newest.place "',
        test=f"{OUTBOX}/test_reader.py"
        "::test_a_zombie_that_read_before_another_applied_changes_nothing",
    ),
    Sabotage(
        invariant=12,
        promise="there is one position for each partition",
        file="outbox/consuming/inbox.py",
        old="            self._lock_all()\n",
        new="",
        test=f"{OUTBOX}/test_sessions.py::test_positions_are_made_once_however_many_begin_at_once",
    ),
    Sabotage(
        invariant=30,
        promise="no key of a position is shared by many versions",
        file="outbox/consuming/inbox.py",
        old="& {MOVES - 1} WHEN 0 ",
        new="& {MOVES - 1} WHEN -1 ",
        test=f"{OUTBOX}/test_sessions.py::test_no_key_of_a_position_is_shared_by_many_versions",
    ),
    Sabotage(
        invariant=30,
        promise="a reader's small tables are read by their indexes",
        file="outbox/consuming/reader.py",
        old="SET enable_seqscan = off;\nSET enable_bitmapscan = off;\n",
        new="",
        test=f"{OUTBOX}/test_sessions.py::test_a_transaction_held_open_makes_no_move_slower",
    ),
    Sabotage(
        invariant=12,
        promise="after an error positions are read under their lock",
        file="outbox/consuming/inbox.py",
        old='rows = self._rows.select_for_update().order_by("partition")',
        new='rows = self._rows.order_by("partition")',
        test=f"{OUTBOX}/test_sessions.py"
        "::test_a_position_is_read_again_only_when_whoever_moves_it_is_done",
    ),
    Sabotage(
        invariant=13,
        promise="across partitions too, effects follow commits",
        file="outbox/consuming/reader.py",
        old="entries.sort(key=lambda entry: order(entry.id))",
        new="entries.sort(key=lambda entry: entry.partition)",
        test=f"{OUTBOX}/test_reader.py"
        "::test_events_are_applied_once_and_in_the_order_of_their_commits",
    ),
    Sabotage(
        invariant=14,
        promise="later events of a parked key wait behind it",
        file="outbox/consuming/reader.py",
        old="if delivery.key in parked and not self._is_freed(delivery, parked):",
        new="if False:",
        test=f"{OUTBOX}/test_reader.py"
        "::test_a_failing_event_parks_its_key_in_order_and_others_flow",
    ),
    Sabotage(
        invariant=14,
        promise="a replay holds the partition still",
        file="outbox/consuming/parking.py",
        old="inbox.lock(partition)",
        new="pass",
        test=f"{OUTBOX}/test_sessions.py"
        "::test_an_event_that_is_being_parked_is_not_left_behind_by_a_replay",
    ),
    Sabotage(
        invariant=15,
        promise="a type that a consumer doesn't list is parked",
        file="outbox/consumer.py",
        old='raise UnknownEventType(f"{self.name} has no handler for {envelope.type}")',
        new="return",
        test=f"{OUTBOX}/test_reader.py::test_an_unknown_type_is_parked",
    ),
    Sabotage(
        invariant=16,
        promise="what passes by itself parks nothing",
        file="outbox/consuming/reader.py",
        old="if not is_transient(exc):\n                        failed.append(exc)",
        new="if True:\n                        failed.append(exc)",
        test=f"{OUTBOX}/test_reader.py"
        "::test_transient_faults_are_tried_until_they_pass_and_park_nothing",
    ),
    Sabotage(
        invariant=16,
        promise="a batch that fails is run again event by event",
        file="outbox/consuming/reader.py",
        old="self._recover()\n                self._apply_singly(deliveries, reached)",
        new="self._recover()\n                raise",
        test=f"{OUTBOX}/test_reader.py"
        "::test_a_deferred_constraint_fails_at_its_event_not_at_commit",
    ),
    Sabotage(
        invariant=17,
        promise="a dead stream server is left alone for a while",
        file="outbox/streams/nudging.py",
        old="self._quiet_until = self._clock() + PAUSE_SECONDS",
        new="pass",
        test="tests/unit/outbox/test_nudging.py"
        "::test_a_dead_server_fails_no_nudge_and_is_left_alone_for_a_while",
    ),
    Sabotage(
        invariant=17,
        promise="a commit does not wait for its nudge",
        file="outbox/streams/nudging.py",
        old="self._opening.start()",
        new="self._opening.start()\n                self._opening.join(4)",
        test="tests/unit/outbox/test_nudging.py"
        "::test_who_nudges_does_not_wait_for_a_line_and_what_piled_up_is_sent_once",
    ),
    Sabotage(
        invariant=17,
        promise="a line that the server cut is noticed before a nudge is lost",
        file="outbox/streams/client.py",
        old="if self._connection.can_read():",
        new="if False:",
        test=f"{OUTBOX}/test_streams.py::test_a_line_that_the_server_cut_says_so_at_the_next_nudge",
    ),
    Sabotage(
        invariant=17,
        promise="a relay that was nudged goes on looking, for whoever spared his nudge",
        file="outbox/publishing/relay.py",
        old="if began < nudged_at + LOOKING_SECONDS:",
        new="if False:",
        test=f"{OUTBOX}/test_relay.py::test_what_is_committed_just_after_a_look_needs_no_nudge",
    ),
    Sabotage(
        invariant=17,
        promise="a nudge that failed spares nobody",
        file="outbox/streams/nudging.py",
        old="self._spared_until[label].value = 0.0\n            self._hang_up()",
        new="self._hang_up()",
        test="tests/unit/outbox/test_nudging.py::test_a_nudge_that_was_not_sent_spares_none",
    ),
    Sabotage(
        invariant=17,
        promise="a transaction that recorded wakes the relay, whatever was rolled back to",
        file="outbox/recorder.py",
        old="if not hooks or hooks[-1][1] != hook:",
        new="if connection.savepoint_ids:",
        test=f"{OUTBOX}/test_recorder.py"
        "::test_a_rolled_back_savepoint_does_not_take_the_nudge_along",
    ),
    Sabotage(
        invariant=18,
        promise="the statement of every nudge stays on its index",
        file="outbox/publishing/relay.py",
        old="SET enable_seqscan = off;\n",
        new="",
        test=f"{OUTBOX}/test_ticks.py::test_both_statements_keep_to_the_index",
    ),
    Sabotage(
        invariant=18,
        promise="a tick that closes a long backlog costs no more than another",
        file="outbox/publishing/statements.py",
        old="<= %(few)s OFFSET 0\n",
        new="<= %(few)s\n",
        test=f"{OUTBOX}/test_ticks.py::test_a_long_backlog_is_not_sorted_to_make_its_tick",
    ),
    Sabotage(
        invariant=19,
        promise="the slowest subscriber decides what is pruned",
        file="outbox/publishing/retention.py",
        old="limit = min(limit, *(tick for tick in confirmed if tick is not None))",
        new="limit = min(limit, max(tick for tick in confirmed if tick is not None))",
        test=f"{OUTBOX}/test_retention.py::test_the_slowest_subscriber_decides",
    ),
    Sabotage(
        invariant=19,
        promise="what is younger than the retention stays",
        file="outbox/publishing/retention.py",
        old="newest = clock_ms() - round(retention_seconds() * 1000)",
        new="newest = clock_ms()",
        test=f"{OUTBOX}/test_retention.py::test_what_is_younger_than_the_retention_stays",
    ),
    Sabotage(
        invariant=19,
        promise="ticks stay until the rows that they see are gone",
        file="outbox/publishing/retention.py",
        old="if all_are_gone else 0",
        new="",
        test=f"{OUTBOX}/test_retention.py::test_what_a_round_had_no_time_for_goes_with_the_next",
    ),
    Sabotage(
        invariant=19,
        promise="the floor is committed by itself, before anything goes",
        file="outbox/publishing/retention.py",
        old="with transaction.atomic(using=alias, durable=True):",
        new="with transaction.atomic(using=alias):",
        test=f"{OUTBOX}/test_retention.py"
        "::test_a_caller_s_transaction_would_hide_the_floor_and_is_refused",
    ),
    Sabotage(
        invariant=19,
        promise="a subscriber confirms what it has of every partition",
        file="outbox/publishing/retention.py",
        old="min(found.ticks.values()) if len(found.ticks) >= partitions > 0 else None",
        new="min(found.ticks.values()) if found.ticks else None",
        test=f"{OUTBOX}/test_retention.py"
        "::test_a_subscriber_that_lacks_a_partition_has_confirmed_nothing",
    ),
    Sabotage(
        invariant=19,
        promise="a reader confirms only what it has read to the end",
        file="outbox/consuming/reader.py",
        old="if order(cursor.tops.get(partition, START))\n"
        "            <= order(self._positions[partition])\n"
        "            < order(end)",
        new="if order(self._positions[partition]) < order(end)",
        test=f"{OUTBOX}/test_retention.py::test_a_partition_with_unread_entries_is_not_confirmed",
    ),
    Sabotage(
        invariant=20,
        promise="a consumer that lacks what was pruned stands still",
        file="outbox/consuming/reader.py",
        old="if not cursor.floor or all(",
        new="if True or all(",
        test=f"{OUTBOX}/test_retention.py"
        "::test_a_consumer_below_the_floor_stands_still_and_names_backfill",
    ),
    Sabotage(
        invariant=20,
        promise="a server that lost everything learns the floor with its first entries",
        file="outbox/streams/scripts.py",
        old="if ARGV[1] == '' and tonumber(",
        new="if false and tonumber(",
        test=f"{OUTBOX}/test_retention.py"
        "::test_a_consumer_below_the_floor_stands_still_after_a_flush_too",
    ),
    Sabotage(
        invariant=21,
        promise="after a failover what was sent is passed over",
        file="outbox/publishing/relay.py",
        old="rows = [row for row in chunk if row[0] not in tick.skip] if tick.skip else chunk",
        new="rows = chunk",
        test=f"{OUTBOX}/test_recovery.py"
        "::test_events_that_were_sent_by_lost_ticks_are_not_sent_again",
    ),
    Sabotage(
        invariant=21,
        promise="after a failover ticks go on above the lost ones",
        file="outbox/publishing/ticks.py",
        old="tick_id = max(last + 1, above + 1, self._clock_ms())",
        new="tick_id = max(last + 1, self._clock_ms())",
        test=f"{OUTBOX}/test_recovery.py::test_new_ticks_are_above_those_that_were_lost",
    ),
    Sabotage(
        invariant=22,
        promise="a restored dump is noticed by its transaction ids",
        file="outbox/publishing/relay.py",
        old="if self._ticks.has_foreign_xids():",
        new="if False:",
        test=f"{OUTBOX}/test_recovery.py"
        "::test_a_pruned_outbox_betrays_a_restored_dump_by_its_ticks",
    ),
    Sabotage(
        invariant=23,
        promise="no worker has many more partitions than the others",
        file="outbox/consuming/assignment.py",
        old="(member for member in members if loads[member] < room)",
        new="members",
        test="tests/unit/outbox/test_assignment.py"
        "::test_every_partition_has_one_member_and_none_has_too_many",
    ),
    Sabotage(
        invariant=24,
        promise="a position that went back is noticed before what follows it is applied",
        file="outbox/consuming/reader.py",
        old="if not self._stopping.is_set() and order(self._positions[partition]) < order(entry):",
        new="if False:",
        test=f"{OUTBOX}/test_reader.py"
        "::test_what_a_failover_took_is_read_again_before_what_follows",
    ),
    Sabotage(
        invariant=27,
        promise="an event that makes earlier ones void doesn't wait behind them, and drops them",
        file="outbox/consuming/reader.py",
        old="if envelope is None or not self._consumer.supersedes(envelope):",
        new="if True:",
        test=f"{OUTBOX}/test_reader.py"
        "::test_a_superseding_event_takes_along_what_is_parked_of_its_aggregate_alone",
    ),
    Sabotage(
        invariant=28,
        promise="nothing of a subject is taken out that a subscriber lacks",
        file="outbox/publishing/erasure.py",
        old="if upto is None or upto < tick",
        new="if False",
        test="tests/integration/together/test_forgetting.py"
        "::test_older_events_stay_until_every_subscriber_is_past_them",
    ),
)
