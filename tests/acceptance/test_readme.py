"""Runs the commands of the README's walk-through in each shape."""

import re
import shutil
import subprocess

import pytest

from tests.support.stacks import RunningStack
from tests.support.surroundings import CHECKOUT

README = CHECKOUT / "README.md"
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
    urls = stack.status()["urls"]
    bash = shutil.which("bash")
    assert bash
    done = subprocess.run(
        [bash, "-c", f"set -euo pipefail\n{script}"],
        env={**stack.environment, "ACCOUNTS": urls["accounts"], "ORDERS": urls["orders"]},
        cwd=CHECKOUT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=60,
        check=False,
    )
    transcript = f"{script}\n\n{done.stdout}"
    assert done.returncode == 0, transcript
    assert re.search(".*".join(SHOWN), done.stdout, re.DOTALL), transcript


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
