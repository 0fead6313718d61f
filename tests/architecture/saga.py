"""Draws the diagram of docs/saga.md from the transition table in the code.

Run it with `python -m tests.architecture.saga`.
"""

from pathlib import Path
from typing import Final

from orders.domain.order import LEADS_TO, TRANSITIONS, Status
from tests.support.surroundings import CHECKOUT

PAGE: Final = Path(CHECKOUT, "docs", "saga.md")
BEGIN, END = "```mermaid\n", "```\n"


def diagram() -> str:
    """Returns an order's states in Mermaid's notation, with an arrow for each command that makes
    an event. An ignored or refused command has no arrow, since the state stays the same."""
    lines = ["stateDiagram-v2"]
    for status, row in TRANSITIONS.items():
        for command, outcome in row.items():
            if isinstance(outcome, type):
                source = status.value if status else "[*]"
                lines.append(f"    {source} --> {LEADS_TO[outcome].value}: {command.__name__}")
    ends = [status for status in Status if _is_end(status)]
    lines += [f"    {status.value} --> [*]" for status in ends]
    return "\n".join(lines) + "\n"


def _is_end(status: Status) -> bool:
    return not any(isinstance(outcome, type) for outcome in TRANSITIONS[status].values())


def drawn(page: str) -> str:
    """Returns the diagram that docs/saga.md contains."""
    return page.partition(BEGIN)[2].partition(END)[0]


def main() -> None:
    page = PAGE.read_text(encoding="utf-8")
    PAGE.write_text(page.replace(drawn(page), diagram()), encoding="utf-8")


if __name__ == "__main__":
    main()
