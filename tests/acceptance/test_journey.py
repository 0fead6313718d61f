"""Runs the commands of docs/journey.md, from stage 0 to stage 5 and back, on one data root."""

import re
import subprocess
import sys

import jwt
import pytest

from stack import console
from tests.acceptance.people import Customer, Shop, answered, shop_at, soon
from tests.acceptance.test_readme import shell
from tests.support.stacks import SERVICES, RunningStack, own_stack
from tests.support.surroundings import CHECKOUT

PAGE = CHECKOUT / "docs" / "journey.md"
STAGES = ("Stage 2", "Stage 3", "Stage 4", "Stage 5", "Back to stage 2")
TIER = [f"tests/acceptance/test_{name}.py" for name in ("placing_orders", "readme", "copies")]
IMPORTED = ("ada@example.com", "bob@example.com")
PASSWORD = "tea-at-four-in-Bern"
SECTION_SECONDS, TIER_SECONDS = 180, 300


@pytest.mark.full  # takes four minutes
@pytest.mark.timeout(1800)
@pytest.mark.xdist_group("many-orders")  # no other test of that size at the same time
def test_the_journey_keeps_orders_and_credit() -> None:
    sections = sections_of(PAGE.read_text(encoding="utf-8"))
    assert [title for title in sections if title.startswith(STAGES)] == list(sections)[
        -len(STAGES) :
    ]
    customers: list[Customer] = []
    traveller: Traveller | None = None
    with own_stack() as stack:
        for title, (script, output) in sections.items():
            printed = figures_left_out(shell(script, stack, within_seconds=SECTION_SECONDS))
            missing = [line for line in output if figures_left_out(line) not in printed]
            assert not missing, f"{title}: {missing}\n{printed}"
            if not title.startswith(STAGES):
                continue
            with shop_at(stack.status()["urls"]) as shop:
                customers = customers or [known(shop, email) for email in IMPORTED]
                for customer in customers:
                    # The token of stage 2 is valid in all stages; a log-in is possible too.
                    customer.shop = shop
                    keeps_its_books(customer)
                traveller = traveller or Traveller(shop.register(name="Eve"))
                traveller.arrives(shop)
            is_on_the_right_servers(stack, own=title.startswith("Stage 5"))
            accept(stack)
            assert stack.parked() == {}
        stack.down()


def keeps_its_books(customer: Customer) -> None:
    """Ada and Bob have the same orders: 4.50 and 13.50 are confirmed, 900.00 is cancelled."""
    found = [(order["status"], order["total"]) for order in customer.orders()]
    assert found == [("CONFIRMED", "13.50"), ("CANCELLED", "900.00"), ("CONFIRMED", "4.50")]
    soon(lambda: str(customer.reserved()) == "18.00", "the credit of two orders is reserved")
    customer.log_in()


class Traveller:
    """A client that sends the consistency token of its last write, also after the next move."""

    def __init__(self, customer: Customer) -> None:
        self.customer = customer
        self.token = ""
        self.placed: list[str] = []

    def arrives(self, shop: Shop) -> None:
        self.customer.shop = shop
        self.customer.log_in()
        listed = self.customer.page_of_orders(**{"Consistency-Token": self.token})
        assert [order["id"] for order in listed["results"]] == self.placed[::-1]
        response = self.customer.ask_to_place("1.00")
        self.token = response.headers["Consistency-Token"]
        self.placed.append(answered(response, 201)["id"])


def known(shop: Shop, email: str) -> Customer:
    customer = Customer(shop=shop, id="", email=email, password=PASSWORD).log_in()
    claims = jwt.decode(customer.access, options={"verify_signature": False})
    customer.id = claims["sub"]
    return customer


def is_on_the_right_servers(stack: RunningStack, *, own: bool) -> None:
    """Each service has its primary and its replica; the old server keeps no copy of the schema."""
    systems = {}
    for service in SERVICES:
        found = []
        for replica in (False, True):
            with stack.database(service, replica=replica) as ask:
                found += ask(
                    "SELECT system_identifier, pg_is_in_recovery() FROM pg_control_system()"
                )
        (primary, is_standby), (standby, is_replica) = found
        assert primary == standby
        assert (is_standby, is_replica) == (False, True)
        systems[service] = primary
    assert (systems["accounts"] != systems["orders"]) is own
    with stack.database("accounts") as ask:
        [(schemas,)] = ask("SELECT count(*) FROM pg_namespace WHERE nspname = 'orders'")
    assert schemas == (0 if own else 1)


def accept(stack: RunningStack) -> None:
    """Run acceptance tests against this stack, which is up."""
    options = ("-n", "0", "--long", "-q", "-p", "no:cacheprovider", "--stack", str(stack.root))
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options, *TIER],
        cwd=CHECKOUT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=TIER_SECONDS,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    assert " passed" in done.stdout


def sections_of(page: str) -> dict[str, tuple[str, list[str]]]:
    """Return the commands of each section, and the lines that the page shows as their output."""
    found = {}
    for section in re.split(r"(?m)^## |^# ", page)[1:]:
        if commands := console.commands(section):
            shown = [line for command in commands for line in command.output]
            found[section.partition("\n")[0]] = (console.script(commands), shown)
    return found


def figures_left_out(text: str) -> str:
    """The tests at each stage add users and orders, so the compared rows have other numbers."""
    return re.sub(r"\d+(?= (users|reservations) compared)", "N", text)
