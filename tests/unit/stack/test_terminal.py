import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from stack.terminal import Output, Screen


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


Make: TypeAlias = Callable[..., Output]


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "log" / "dev.log"


@pytest.fixture
def make(log: Path) -> Iterator[Make]:
    made: list[Output] = []

    def output(stream: io.StringIO, **more: Any) -> Output:
        made.append(Output(log, stream=stream, **more))
        return made[-1]

    yield output
    for one in made:
        one.close()


def test_lines_start_with_the_name_of_their_process(make: Make) -> None:
    stream = io.StringIO()
    output = make(stream, width=6)

    output.line("web", "hello")
    output.note("ready")

    assert stream.getvalue() == "web    | hello\ndev    | ready\n"


def test_only_a_terminal_gets_a_colour_per_process(make: Make, log: Path) -> None:
    stream = Terminal()
    output = make(stream)

    output.line("web", "\x1b[1mloud\x1b[0m")
    output.line("worker", "quiet")

    first, second = stream.getvalue().splitlines()
    assert first[:5] != second[:5]
    assert first.startswith("\x1b[")
    assert "\x1b" not in log.read_text()
    assert "web             | loud" in log.read_text()


def test_a_line_of_a_process_has_no_commands_for_the_terminal(make: Make, log: Path) -> None:
    stream = Terminal()
    output = make(stream)

    output.line("web", "GET /\x1b[2J\x9b2J\r\x07\ttab")

    shown = stream.getvalue()
    assert log.read_text().partition("| ")[2] == "GET /\\x1b[2J\\x9b2J\\r\\x07    tab\n"
    assert "\\x1b[2J" in shown
    assert "\x1b[2J" not in shown


def test_secrets_are_shown_and_not_written_to_the_log(make: Make, log: Path) -> None:
    stream = io.StringIO()
    output = make(stream)

    output.show("password: x")

    assert "password" in stream.getvalue()
    assert "password" not in log.read_text()


def test_a_closed_terminal_does_not_stop_the_log(make: Make, log: Path) -> None:
    stream = io.StringIO()
    output = make(stream)

    stream.close()
    output.line("web", "still here")

    assert "still here" in log.read_text()


def test_a_detached_start_shows_notes_only(make: Make, log: Path) -> None:
    stream = io.StringIO()
    output = make(stream, only_notes=True)

    output.line("web", "chatter")
    output.note("ready")

    assert stream.getvalue() == "dev             | ready\n"
    assert "chatter" in log.read_text()


def test_a_screen_is_drawn_again_in_place_and_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "8")
    monkeypatch.setenv("LINES", "4")
    terminal = Terminal()
    monkeypatch.setattr("sys.stdout", terminal)
    screen = Screen()
    assert screen.is_possible()

    screen.draw(["12345678", "b", "c", "d"])
    screen.draw(["e"])
    screen.draw(["f"])

    first, second, third = terminal.getvalue().split("\x1b[J\n")[:3]
    assert first == "1234567\x1b[K\nb\x1b[K\nc\x1b[K"
    assert (second, third) == ("\x1b[3Fe\x1b[K", "\x1b[1Ff\x1b[K")


def test_without_a_terminal_there_is_no_screen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdout", Terminal())
    monkeypatch.setenv("TERM", "dumb")
    assert not Screen.is_possible()
    monkeypatch.undo()
    monkeypatch.setattr("sys.stdout", io.StringIO())
    assert not Screen.is_possible()
