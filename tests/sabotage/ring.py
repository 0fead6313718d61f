"""Safeguards of the cache ring (docs/adr/0009-cache-ring.md)."""

from typing import Final

from tests.sabotage.sabotage import Sabotage

LEASES: Final = "tests/integration/ring/test_leases.py"
MANY: Final = "tests/integration/ring/test_many.py"
MEMBERS: Final = "tests/integration/ring/test_members.py"
RESTARTS: Final = "tests/integration/ring/test_restarts.py"
PURE: Final = "tests/unit/placement/test_ring.py"
SCRIPTS: Final = "placement/ring/scripts.py"


SABOTAGES: Final = (
    Sabotage(
        promise="a view in the store that no process can use is replaced",
        file="placement/ring/arrangement.py",
        old='        if node_name(f"{scheme}://{name}") != name:\n',
        new="        if False:\n",
        test="tests/attacks/test_streams.py::test_no_write_of_the_rings_user_makes_a_cache_raise",
    ),
    Sabotage(
        promise="no view is so far in the future that none can follow it",
        file="placement/ring/arrangement.py",
        old="if stored.epoch > now + FARTHEST_MS:",
        new="if False:",
        test=f"{PURE}::test_text_that_is_not_a_view_is_refused",
    ),
    Sabotage(
        promise="a node that gets a key back serves no value from before",
        file="placement/ring/arrangement.py",
        old="            generation = max(generation, since)\n",
        new="            generation = since\n",
        test=f"{PURE}::test_a_key_never_returns_to_a_former_place",
    ),
    Sabotage(
        promise="a generation is never used twice, even when the clock goes back",
        file="placement/ring/arrangement.py",
        old="epoch = max(now, view.epoch + 1)",
        new="epoch = now",
        test=f"{PURE}::test_a_key_never_returns_to_a_former_place",
    ),
    Sabotage(
        promise="a value is not stored if its lease was lost during the load",
        file=SCRIPTS,
        old="if redis.call('GET', KEYS[2]) ~= ARGV[1] then return 0 end\n",
        new="",
        test=f"{LEASES}::test_a_key_deleted_during_its_load_is_not_stored",
    ),
    Sabotage(
        promise="a value below the floor is not stored",
        file=SCRIPTS,
        old="if (floor and new < floor) or (held and new < held) then return -1 end",
        new="",
        test=f"{LEASES}::test_a_value_from_a_lagging_source_is_served_and_not_stored",
    ),
    Sabotage(
        promise="on a miss, one reader loads the value and the others wait",
        file=SCRIPTS,
        old="if redis.call('SET', KEYS[2], ARGV[1], 'NX', 'PX', ARGV[2]) then return {'', -3} end",
        new="redis.call('SET', KEYS[2], ARGV[1], 'PX', ARGV[2])\nif true then return {'', -3} end",
        test=f"{LEASES}::test_two_hundred_readers_of_one_expired_key_load_it_once",
    ),
    Sabotage(
        promise="a node that missed an invalidation is ejected immediately",
        file="placement/ring/backend.py",
        old="with self.ring.node(server, at_once=True) as node:\n"
        "                    node.invalidate(",
        new="with self.ring.node(server) as node:\n                    node.invalidate(",
        test=f"{MEMBERS}::test_an_invalidation_that_a_node_does_not_confirm_ejects_it",
    ),
    Sabotage(
        promise="an invalidation reaches every node that a process may still read",
        file="placement/ring/arrangement.py",
        old="*(() if settled else reversed(self.past))",
        new="*()",
        test=f"{MEMBERS}::test_an_invalidation_reaches_processes_with_an_older_view",
    ),
    Sabotage(
        promise="a process never serves an older version than before",
        file="placement/ring/seen.py",
        old="(known := self._versions.get(key, version)) > version",
        new="(known := version) > version",
        test=f"{LEASES}::test_a_process_never_serves_an_older_version_than_before",
    ),
    Sabotage(
        promise="a reader that asks again leaves no lease, for which others would wait",
        file="placement/ring/leases.py",
        old="        if has_lease:",
        new="        if False:",
        test=f"{LEASES}::test_a_reader_that_asked_a_node_without_keys_leaves_no_lease_there",
    ),
    Sabotage(
        promise="a slow load doesn't bring back an older version",
        file="placement/ring/seen.py",
        old="if known is None or known == before or known < version:",
        new="if True:",
        test=f"{LEASES}::test_a_slow_load_does_not_bring_back_an_older_version",
    ),
    Sabotage(
        promise="a process that can't confirm the members bypasses the ring",
        file="placement/ring/membership.py",
        old="return self._view if self._confirmed >= oldest else None",
        new="return self._view",
        test=f"{MEMBERS}::test_the_ring_is_bypassed_while_the_store_hangs",
    ),
    Sabotage(
        promise="a node that restarts with old data serves none of that data",
        file="placement/ring/membership.py",
        old="return changed or known is None or not known.run",
        new="return changed or True",
        test=f"{RESTARTS}::test_a_node_restarted_while_the_store_is_down_serves_no_old_data",
    ),
    Sabotage(
        promise="a process has one ring, also if several threads connect first",
        file="placement/ring/process.py",
        old="ring = rings.setdefault(key, new)",
        new="rings[key] = ring = new",
        test=f"{PURE}::test_racing_first_calls_get_the_same_ring",
    ),
    Sabotage(
        promise="a thread that chose a node before its restart reads nothing from it",
        file="placement/ring/process.py",
        old="return node is None or node.since > place.generation",
        new="return node is None",
        test=f"{RESTARTS}::test_a_thread_that_placed_a_key_before_a_restart_serves_no_old_data",
    ),
    Sabotage(
        promise="a node's late answer is used only if the view is confirmed",
        file="placement/ring/process.py",
        old="slow = now - asked > SLOW_SECONDS",
        new="slow = False",
        test="tests/integration/ring/test_members.py"
        "::test_a_late_answer_of_a_hung_node_is_discarded_after_its_ejection",
    ),
    Sabotage(
        promise="a reused connection never returns another request's answers",
        file="placement/ring/nodes.py",
        old="            self._connection.disconnect()\n        self._pool",
        new="            pass\n        self._pool",
        test=f"{MANY}::test_unread_answers_never_reach_another_call",
    ),
    Sabotage(
        promise="a large number is counted exactly",
        file=SCRIPTS,
        old="redis.call('INCRBY', KEYS[1], ARGV[1])\nreturn redis.call('GET', KEYS[1])",
        new="return redis.call('INCRBY', KEYS[1], ARGV[1])",
        test="tests/integration/ring/test_cache_api.py::test_large_numbers_are_counted_exactly",
    ),
    Sabotage(
        promise="a cached datetime keeps its time zone",
        file="placement/ring/values.py",
        old="(value.tzinfo is None or value.tzinfo is UTC) and not value.fold",
        new="True",
        test="tests/unit/placement/test_ring_values.py"
        "::test_a_moment_keeps_its_time_zone_and_its_fold",
    ),
    Sabotage(
        promise="uncommitted data of a transaction is not cached",
        file="accounts/queries.py",
        old="load() if inside else cached.user(user_id, load=load)",
        new="cached.user(user_id, load=load)",
        test="tests/integration/accounts/test_user_cache.py"
        "::test_a_rolled_back_change_is_never_seen",
    ),
    Sabotage(
        promise="the event invalidates the cached key too",
        file="accounts/consumers.py",
        old='"accounts.user.updated.v1": _refresh',
        new='"accounts.user.updated.v1": ignore',
        test="tests/integration/accounts/test_user_cache.py"
        "::test_the_event_invalidates_the_cache_if_the_writer_did_not",
    ),
)
