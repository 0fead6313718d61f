"""Runs the commands of README's walk-through, and of the lab's page, in each shape."""

import re
import shutil
import subprocess
from uuid import uuid4

import httpx
import pytest

from tests.support.stacks import RunningStack
from tests.support.surroundings import CHECKOUT
from tests.support.waiting import eventually

README = CHECKOUT / "README.md"
LAB = CHECKOUT / "lab" / "README.md"
FENCE = re.compile(r"^( *)```console *\n(.*?)^\1``` *$", re.MULTILINE | re.DOTALL)
SHOWN = ("CONFIRMED", "REJECTED", "CANCELLED")


def commands(block: str) -> str:
    """Returns the commands: lines after `$ `, continued after `\\` or by lines after `> `."""
    typed: list[str] = []
    continues = False
    for line in block.splitlines():
        text = line.strip()
        if text.startswith("$ "):
            typed.append(text.removeprefix("$ "))
        elif continues or text.startswith("> "):
            typed.append(text.removeprefix("> "))
        else:
            continue
        continues = typed[-1].endswith("\\")
    return "\n".join(typed)


def walk_through(text: str) -> str:
    """Returns one script with the commands of each section that uses $ACCOUNTS or $ORDERS."""
    blocks = [
        commands(block)
        for section in re.split(r"(?m)^## ", text)
        if re.search(r"\$\{?(ACCOUNTS|ORDERS)\b", section)
        for _, block in FENCE.findall(section)
    ]
    return "\n".join(blocks)


def test_the_walk_through_of_the_readme_works(stack: RunningStack) -> None:
    if not README.exists():
        pytest.skip("README.md doesn't exist")
    script = walk_through(README.read_text(encoding="utf-8"))
    assert "curl" in script, "README.md has no console block that calls $ACCOUNTS or $ORDERS"
    printed = run(script, stack)
    assert re.search(".*".join(SHOWN), printed, re.DOTALL), f"{script}\n\n{printed}"


def test_the_commands_of_the_lab_print_what_its_page_shows(stack: RunningStack) -> None:
    text = LAB.read_text(encoding="utf-8")
    blocks = [block for _, block in FENCE.findall(text)]
    user = f"ada-{uuid4()}"
    shown = [
        line.replace('"id":"ada"', f'"id":"{user}"')
        for block in blocks
        for line in block.splitlines()
        if not line.startswith(("$ ", "> "))
    ]
    warm_up(f"{stack.status()['urls']['accounts']}/lab")
    printed = run("\n".join(map(commands, blocks)), stack, ID=user)

    assert printed.splitlines() == shown


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
            answers = [httpx.get(url) for _ in range(10)]
            return all(answer.headers["Served-By"].startswith(source) for answer in answers)

        eventually(is_warm, within_seconds=30, what=f"{url} is served by {source}N")


def run(script: str, stack: RunningStack, **variables: str) -> str:
    """Run the script with the addresses of the stack in a shell."""
    urls = stack.status()["urls"]
    variables |= {"ACCOUNTS": urls["accounts"], "ORDERS": urls["orders"]}
    return shell(script, stack, within_seconds=60, **variables)


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


def test_commands_are_extracted_from_console_blocks() -> None:
    text = """
```console
$ ./dev up
```

## A walk through

1. In a list:

   ```console
   $ curl $ORDERS/api/ \\
       -d '{"a": 1}'
   {"id": "$ORDERS is no command here"}
   $ TOKEN=$(curl "${ACCOUNTS}/api/token/" |
   > jq -r .access)
   ```
"""
    assert walk_through(text).splitlines() == [
        "curl $ORDERS/api/ \\",
        """-d '{"a": 1}'""",
        'TOKEN=$(curl "${ACCOUNTS}/api/token/" |',
        "jq -r .access)",
    ]
