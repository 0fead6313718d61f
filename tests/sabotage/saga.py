"""Safeguards of the saga and its projections (docs/saga.md)."""

from typing import Final

from tests.sabotage.sabotage import Sabotage

ORDERS: Final = "tests/integration/orders"
STORY: Final = "tests/integration/together/test_story.py"

SABOTAGES: Final = (
    Sabotage(
        promise="an imported order that has ended takes no credit from an active one",
        file="orders/handlers.py",
        old="announcing=[row_of(announce_current(order))],",
        new="announcing=[row_of(announce(events[0], order))],",
        test="tests/integration/together/test_imports.py"
        "::test_imported_orders_hold_exactly_the_credit_of_the_active_ones",
    ),
    Sabotage(
        promise="a decision about an order that orders has lost parks nothing",
        file="orders/domain/order.py",
        old="        ConfirmOrder: OrderDisowned,",
        new="        ConfirmOrder: REFUSED,",
        test=f"{ORDERS}/test_through_the_streams.py"
        "::test_a_decision_about_a_lost_order_disowns_it_and_parks_nothing",
    ),
    Sabotage(
        promise="accounts releases the credit of a disowned order",
        file="accounts/consumers.py",
        old='"orders.order.disowned.v1": release',
        new='"orders.order.disowned.v1": ignore',
        test="tests/integration/accounts/test_consumers.py"
        "::test_the_end_of_an_order_releases_its_credit",
    ),
    Sabotage(
        promise="the order view doesn't show a version that a failover has lost",
        file="orders/projections.py",
        old=" WHERE excluded.status = 'DISOWNED'\n    OR (shown.status <> 'DISOWNED' AND ",
        new=" WHERE (true AND ",
        test=f"{ORDERS}/test_projections.py"
        "::test_a_disowned_order_replaces_the_versions_that_a_failover_lost",
    ),
    Sabotage(
        promise="the sales don't count a version that a failover has lost",
        file="orders/projections.py",
        old="    return LAST if disowned else change.version",
        new="    return change.version",
        test=f"{ORDERS}/test_projections.py"
        "::test_a_disowned_order_replaces_the_versions_that_a_failover_lost",
    ),
    Sabotage(
        promise="an order is read again after its reservation",
        file="orders/reservations.py",
        old="        if before.get(id_) != after.get(id_):\n            continue",
        new="        pass",
        test="tests/integration/together/test_lost_orders.py"
        "::test_an_order_that_ends_during_the_comparison_is_not_a_difference",
    ),
    Sabotage(
        promise="the repair of many orders waits for each step, not once for all",
        file="orders/reservations.py",
        old="for suspects in chunks(sorted(held ^ active)):",
        new="for suspects in [sorted(held ^ active)]:",
        test="tests/integration/together/test_lost_orders.py"
        "::test_many_differing_orders_are_repaired_in_steps",
    ),
    Sabotage(
        promise="a customer doesn't see the error of a parked event in a story",
        file="orders/steps.py",
        old='error = f": {effect.error}" if for_staff else ""',
        new='error = f": {effect.error}"',
        test=f"{STORY}::test_a_parked_step_is_shown_with_its_error_until_it_is_retried",
    ),
    Sabotage(
        promise="a customer doesn't see the error of a peer in a story",
        file="orders/storyline.py",
        old='why = f": {exc}" if for_staff else ""',
        new='why = f": {exc}"',
        test=f"{STORY}::test_without_accounts_the_story_says_so_and_shows_the_part_of_orders",
    ),
    Sabotage(
        promise="a story shows a parked event as parked, although the position has passed it",
        file="outbox/tracing.py",
        old="return stored.filter(entry=place.entry).first()",
        new="return None",
        test=f"{STORY}::test_a_parked_step_is_shown_with_its_error_until_it_is_retried",
    ),
    Sabotage(
        promise="a story shows an event without a row as applied only if the position proves it",
        file="outbox/tracing.py",
        old="if place.end and order(at) >= order(place.end):",
        new="if place.row is None or order(at) >= order(place.end):",
        test=f"{STORY}::test_a_deleted_row_is_applied_only_by_consumers_that_have_passed_its_tick",
    ),
    Sabotage(
        promise="a story shows a parked event whose row is deleted",
        file="outbox/tracing.py",
        old="return next((found for half in halves for found in half), None)",
        new="return None",
        test=f"{STORY}::test_an_event_that_is_parked_for_longer_than_the_retention_is_shown",
    ),
    Sabotage(
        promise="a story names the first tick that sees a row",
        file="outbox/tracing.py",
        old="FROM search ORDER BY upto - below LIMIT 1",
        new="FROM search ORDER BY below - upto LIMIT 1",
        test=f"{STORY}::test_the_first_tick_of_each_row_is_found",
    ),
)
