"""The picture of /flow/: where each box, arrow and figure is. The template only draws it.

There is one drawing for each service, from its writes at the top to the consumers of its events at
the bottom. It is as wide as a phone, so that its text is never small.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

State = dict[str, Any]

WIDTH: Final = 340
TOP: Final = 1
LINE: Final = 20
HEAD: Final = 26  # a box's title
ARROW: Final = 40  # room for an arrow and its figure
INDENT: Final = 22  # of a replica or a consumer
CELL: Final = 18  # a partition
CELLS: Final = 16  # partitions in a row
OWNERS: Final = 4  # styles of a partition's owner


@dataclass(frozen=True, slots=True, kw_only=True)
class Text:
    """Words, with a figure or a rate between them that the page's script keeps current."""

    x: int = 10
    y: int = 0
    before: str = ""
    figure: str = ""
    rate: str = ""
    after: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """A partition. `cells_of` has its title and the process that owns it."""

    x: int
    y: int
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Box:
    x: int
    y: int
    width: int
    height: int
    title: str
    state: str  # the name of its state
    texts: list[Text]
    cells: list[Cell] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrow:
    y: int
    text: Text


@dataclass(slots=True)
class Drawing:
    label: str
    boxes: list[Box] = field(default_factory=list)
    arrows: list[Arrow] = field(default_factory=list)
    height: int = TOP

    def box(
        self, title: str, state: str, *lines: Sequence[Text], indent: int = 0, more: int = 0
    ) -> Box:
        """Add a box below the last one, with lines of texts and `more` room for cells."""
        texts = [
            Text(
                x=1 + indent + text.x,
                y=self.height + HEAD + LINE * number + 14,
                before=text.before,
                figure=text.figure,
                after=text.after,
            )
            for number, line in enumerate(lines)
            for text in line
        ]
        found = Box(
            x=1 + indent,
            y=self.height,
            width=WIDTH - 2 - indent,
            height=HEAD + LINE * len(lines) + 4 + more,
            title=title,
            state=state,
            texts=texts,
        )
        self.boxes.append(found)
        self.height += found.height + 6
        return found

    def arrow(self, rate: str, after: str) -> None:
        """Add an arrow with a rate to the next box."""
        self.height -= 6
        text = Text(x=44, y=self.height + 25, rate=rate, after=after)
        self.arrows.append(Arrow(y=self.height, text=text))
        self.height += ARROW


def drawings(state: State) -> Iterator[Drawing]:
    """One drawing for each service whose state is known."""
    for label, service in state["services"].items():
        drawing = Drawing(label)
        _database(drawing, service)
        drawing.arrow(f"{label}/recorded-total", "rows per second")
        drawing.box(
            "Outbox, ticks and relay",
            f"{label}/outbox",
            [
                Text(before="waiting", figure=f"{label}/unpublished"),
                Text(x=160, before="oldest", figure=f"{label}/oldest"),
            ],
            [
                Text(before="rows kept", figure=f"{label}/rows"),
                Text(x=160, before="last tick", figure=f"{label}/tick", after="UTC"),
            ],
        )
        drawing.arrow(f"{label}/published-total", "entries per second")
        _streams(drawing, len(service["streams"]["partitions"]))
        drawing.arrow(f"{label}/published-total", "per second to each consumer")
        for reader in _readers_of(label, state):
            _reader(drawing, reader)
        yield drawing


def _database(drawing: Drawing, service: State) -> None:
    label = drawing.label
    drawing.box(
        f"{label}: primary",
        f"{label}/database",
        [Text(before="oldest open transaction", figure=f"{label}/transaction")],
    )
    for replica in service["replicas"]:
        name = f"{label}/{replica['name']}"
        line = [Text(before="behind", figure=name)]
        drawing.box(f"replica {replica['name']}", name, line, indent=INDENT)


def _readers_of(label: str, state: State) -> list[State]:
    services = state["services"].values()
    readers = (each for service in services for each in service.get("consumers", ()))
    return [reader for reader in readers if reader["producer"] == label]


def _streams(drawing: Drawing, partitions: int) -> None:
    label = drawing.label
    rows = -(-partitions // CELLS)
    box = drawing.box(
        "Streams",
        f"{label}/streams",
        [Text(before=f"{partitions} partitions, entries", figure=f"{label}/entries")],
        more=rows * CELL + 4,
    )
    for number in range(partitions):
        x = box.x + 10 + number % CELLS * CELL
        y = box.y + HEAD + LINE + 4 + number // CELLS * CELL
        box.cells.append(Cell(x=x, y=y, name=f"{label}/{number}"))


def cells_of(state: State) -> dict[str, State]:
    """For each partition of each service, its title and the number of the process that owns it at
    the first consumer; -1 for none."""
    found: dict[str, State] = {}
    for label, service in state["services"].items():
        readers = _readers_of(label, state)
        for number, entries in enumerate(service["streams"]["partitions"]):
            owned = [each for each in readers if number < len(each["owners"])]
            owners = [f"{each['subscriber']} {each['owners'][number] + 1}" for each in owned]
            read_by = ", ".join(owners) or "no process"
            found[f"{label}/{number}"] = {
                "title": f"Partition {number}: {entries:,} entries; read by {read_by}",
                "owner": owned[0]["owners"][number] % OWNERS if owned else -1,
            }
    return found


def _reader(drawing: Drawing, reader: State) -> None:
    name = f"{reader['subscriber']}/{reader['producer']}"
    kind = "projection" if reader["is_projection"] else "consumer"
    drawing.box(
        f"{reader['subscriber']} ({kind})",
        name,
        [
            Text(before="behind", figure=f"{name}/lag", after="events"),
            Text(x=160, before="for", figure=f"{name}/seconds"),
        ],
        [
            Text(before="parked", figure=f"{name}/parked"),
            Text(x=160, before="processes", figure=f"{name}/members"),
        ],
        [Text(figure=f"{name}/reason")],
        indent=INDENT,
    )


def readers(state: State, history: State) -> Iterator[State]:
    """The rows of the table of consumers, which has the picture's figures for every reader."""
    for label, service in state["services"].items():
        for reader in service.get("consumers", ()):
            key = f"{reader['subscriber']}/{reader['producer']}"
            trend_key = f"{reader['subscriber']} ← {reader['producer']}"
            yield {
                **reader,
                "key": key,
                "service": label,
                "trend_key": trend_key,
                "trend": history.get(label, {}).get("trends", {}).get(trend_key, ""),
            }


def nodes(state: State) -> list[State]:
    names = [node["node"] for node in state["ring"]["nodes"]]
    return [
        {"node": name, "state_name": f"ring/{name}", "figure": f"ring/{name}/keys"}
        for name in names
    ]
