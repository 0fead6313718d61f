"""The console blocks of a Markdown page: the commands that a reader types, and their output."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

_BLOCK: Final = re.compile(r"^( *)```console *\n(.*?)^\1``` *$", re.MULTILINE | re.DOTALL)
_LINK: Final = re.compile(r"\[([^\]]*)\]\([^)]*\)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """Lines of a shell, without prompts, and the lines that the page shows as their output."""

    lines: tuple[str, ...]
    output: tuple[str, ...] = ()

    @property
    def script(self) -> str:
        return "\n".join(self.lines)

    @property
    def typed(self) -> str:
        """The lines after the prompts of a shell."""
        return "$ " + "\n> ".join(self.lines)


def section(page: str, title: str) -> str:
    """The text below a heading of level 2. Raises KeyError if the page has no such heading."""
    for part in re.split(r"(?m)^## ", page)[1:]:
        heading, _, text = part.partition("\n")
        if heading == title:
            return text
    raise KeyError(title)


def steps(text: str) -> Iterator[str | Command]:
    """Yield the paragraphs, each as one line of plain text, and the commands, in their order."""
    end = 0
    for found in _BLOCK.finditer(text):
        yield from _paragraphs(text[end : found.start()])
        yield from _commands(found[2], indent=found[1])
        end = found.end()
    yield from _paragraphs(text[end:])


def commands(text: str) -> list[Command]:
    return [step for step in steps(text) if isinstance(step, Command)]


def script(commands: Iterable[Command]) -> str:
    return "\n".join(command.script for command in commands)


def _paragraphs(text: str) -> Iterator[str]:
    for paragraph in re.split(r"\n\s*\n", text.strip()):
        if paragraph:
            yield _LINK.sub(r"\1", " ".join(paragraph.split()))


def _commands(block: str, *, indent: str) -> Iterator[Command]:
    """A command starts after `$ `. It continues after a backslash, or on a line after `> `."""
    lines: list[str] = []
    output: list[str] = []
    for line in block.splitlines():
        text = line.strip()
        is_first = text.startswith("$ ")
        if is_first and lines:
            yield Command(lines=tuple(lines), output=tuple(output))
            lines, output = [], []
        if is_first:
            lines.append(text.removeprefix("$ "))
        elif lines and not output and (text.startswith("> ") or lines[-1].endswith("\\")):
            lines.append(text.removeprefix("> "))
        else:
            output.append(line.removeprefix(indent))
    if lines:
        yield Command(lines=tuple(lines), output=tuple(output))
