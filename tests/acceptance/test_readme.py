"""Runs the commands of README's walk, and of the lab's page, in each shape."""

import re
import shutil
import subprocess
from uuid import uuid4

import httpx

from stack import console, walk
from tests.acceptance.people import Customer
from tests.support.stacks import RunningStack
from tests.support.surroundings import CHECKOUT
from tests.support.waiting import eventually

LAB = CHECKOUT / "lab" / "README.md"


def test_the_walk_of_the_readme_prints_what_the_page_shows(
    stack: RunningStack, staff: Customer
) -> None:
    printed = stack.dev("walk")
    page = walk.README.read_text(encoding="utf-8")
    typed = [each.typed for each in console.commands(console.section(page, walk.TITLE))]
    assert [each for each in typed if each not in printed] == []
    assert sum("curl" in each for each in typed) > 4
    orders = dict(re.findall(r"^  (tea|piano) +http\S+/orders/(\S+)/$", printed, re.MULTILINE))
    statuses = {name: staff.look_at({"id": id_})["status"] for name, id_ in orders.items()}
    assert statuses == {"tea": "CANCELLED", "piano": "REJECTED"}


def test_the_commands_of_the_lab_print_what_its_page_shows(stack: RunningStack) -> None:
    """A replica or a node that a busy machine delays isn't in use for a moment, and the primary
    serves the read. Then the commands are repeated with a new user, at most twice."""
    commands = console.commands(LAB.read_text(encoding="utf-8"))
    accounts = stack.status()["urls"]["accounts"]
    for _ in range(3):
        user = f"ada-{uuid4()}"
        shown = [
            line.replace('"id":"ada"', f'"id":"{user}"')
            for each in commands
            for line in each.output
        ]
        warm_up(f"{accounts}/lab")
        script = console.script(commands)
        printed = shell(script, stack, within_seconds=60, ACCOUNTS=accounts, ID=user).splitlines()
        if printed == shown:
            break
    assert printed == shown


def warm_up(lab: str) -> None:
    """Wait until every web process reads from the replica and from the nodes: its first reads are
    on the primary."""
    user = f"bob-{uuid4()}"
    for way in ("centralized", "decentralized"):
        body = {"id": user, "name": "Bob"}
        httpx.post(f"{lab}/{way}/users/", json=body).raise_for_status()
    sources = {
        f"{lab}/centralized/users/": "replica-",
        f"{lab}/centralized/users/{user}/?variant=cache": "ring-",
        f"{lab}/decentralized/users/{user}/": "ring-",
    }
    for url, source in sources.items():

        def is_warm(url: str = url, source: str = source) -> bool:
            answers = [httpx.get(url, timeout=20) for _ in range(10)]
            return all(answer.headers["Served-By"].startswith(source) for answer in answers)

        eventually(is_warm, within_seconds=60, what=f"{url} is served by {source}N")


def shell(script: str, stack: RunningStack, *, within_seconds: float, **variables: str) -> str:
    """Run the script in a shell and return its output. Fails if a command fails."""
    bash = shutil.which("bash")
    assert bash
    done = subprocess.run(
        [bash, "-c", f"set -euo pipefail\n{script}"],
        env={**stack.environment, **variables},
        cwd=CHECKOUT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=within_seconds,
        check=False,
    )
    assert done.returncode == 0, f"{script}\n\n{done.stdout}\nsee {stack.log}"
    return done.stdout
