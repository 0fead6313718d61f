"""`./dev show` without a stack: its list, its errors, and the pauses that it makes."""

import re
import threading
from pathlib import Path

import pytest

from stack.__main__ import main
from stack.environment import CHECKOUT
from stack.errors import StackError
from stack.show import client, pauses
from stack.show.narration import Untrue, wait_until
from stack.show.techniques import TECHNIQUES

NAMES = [
    *("read-split", "replication", "cache", "hashing", "eventual", "event-sourcing"),
    *("cqrs", "outbox", "saga"),
]


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("MITOSIS_STACK_ROOT", str(tmp_path))
    return tmp_path


def test_without_a_name_each_technique_is_listed_with_one_sentence(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["show"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == NAMES
    assert all(line.endswith(".") and line.count(".") == 1 for line in lines)


@pytest.mark.parametrize("arguments", [["reed-split"], ["reed-split", "--without"], ["--without"]])
def test_an_unknown_technique_is_one_line_that_lists_the_techniques(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["show", *arguments]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ./dev show: ")
    assert line.endswith(f"; techniques: {', '.join(NAMES)}")


@pytest.mark.parametrize("name", NAMES)
def test_without_a_stack_the_error_names_dev_up(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["show", name]) == 1
    printed = capsys.readouterr()
    assert printed == ("", "error: the stack is down; ./dev up starts it\n")


def test_help_shows_nothing_else(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["show", "outbox", "--help"])
    printed = capsys.readouterr()
    assert (ended.value.code, printed.err) == (0, "")
    assert printed.out.startswith("usage: ./dev show ")
    assert list(root.iterdir()) == []


@pytest.mark.parametrize("name", NAMES)
def test_the_place_to_read_on_exists(name: str) -> None:
    technique = TECHNIQUES[name]
    page = (CHECKOUT / "docs" / "techniques.md").read_text(encoding="utf-8")
    titles = re.findall(r"^#+ (.*)$", page, re.MULTILINE)
    assert technique.section in {title.lower().replace(" ", "-") for title in titles}
    assert (CHECKOUT / technique.code).is_file()


def test_a_pause_ends_before_a_block_that_takes_too_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pauses, "LONGEST_PAUSE_SECONDS", 0.01)
    ended = threading.Event()
    with pauses.undone(ended.set):
        assert ended.wait(timeout=10)


def test_a_pause_ends_with_a_block_that_fails() -> None:
    ended = threading.Event()
    with pytest.raises(Untrue), pauses.undone(ended.set):
        wait_until(lambda: False, "the claim is true", within_seconds=0)
    assert ended.is_set()


def test_a_web_server_that_does_not_answer_is_one_line() -> None:
    with pytest.raises(StackError, match=r"GET http://127\.0\.0\.1:1/: no answer .*dev status$"):
        client.send("GET", "http://127.0.0.1:1/")
