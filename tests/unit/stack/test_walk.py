"""`./dev walk` without a stack: its shell, and how it ends at a failed command."""

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from stack import walk
from stack.__main__ import main
from stack.console import Command
from stack.walk import Failed, Shell

URLS = {"accounts": "http://127.0.0.1:1", "orders": "http://127.0.0.1:2"}


@pytest.fixture
def sh() -> Iterator[Shell]:
    with walk.shell(NAME="Ada") as shell:
        yield shell


@pytest.fixture
def page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A README for a stack that is up."""
    stage = SimpleNamespace(urls=URLS, links=lambda orders: f"links of {orders}")
    monkeypatch.setattr(walk, "Stage", lambda _: stage)
    monkeypatch.setattr(walk, "README", tmp_path / "README.md")
    return tmp_path / "README.md"


def written(page: Path, *lines: str) -> None:
    block = "\n".join(lines)
    page.write_text(f"## {walk.TITLE}\n\nSome [prose](x.md)\nof it.\n\n```console\n{block}\n```\n")


def test_a_walk_shows_prose_commands_and_their_output_and_ends_with_links(
    page: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    written(
        page,
        "$ TEA=1",
        "$ PIANO=$ORDERS",
        '$ echo "$ACCOUNTS" |',
        "> sed s/:1//",
        "http://127.0.0.1",
    )
    assert main(["walk"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "A walk with curl (README.md)",
        "ACCOUNTS=http://127.0.0.1:1",
        "ORDERS=http://127.0.0.1:2",
        "",
        "Some prose of it.",
        "",
        "$ TEA=1",
        "$ PIANO=$ORDERS",
        '$ echo "$ACCOUNTS" |',
        "> sed s/:1//",
        "http://127.0.0.1",
        "",
        "The walk has left two orders. Log in as staff to see their stories.",
        "",
        "links of {'tea': '1', 'piano': 'http://127.0.0.1:2'}",
    ]


@pytest.mark.parametrize(
    ("lines", "reason"),
    [
        (
            ["$ echo PENDING", "CONFIRMED"],
            "README.md shows 'CONFIRMED', not 'PENDING': echo PENDING",
        ),
        (["$ echo a; echo b"], "README.md shows no output, not 'a\\nb': echo a; echo b"),
        (["$ true", "CONFIRMED"], "README.md shows 'CONFIRMED', not no output: true"),
        (["$ (exit 3)"], "status 3 of: (exit 3)"),
        (["$ exit 3"], "the shell ended at: exit 3"),
    ],
)
def test_a_walk_ends_at_the_first_command_that_does_not_do_what_the_page_shows(
    page: Path, lines: list[str], reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    written(page, *lines, "$ echo never")
    assert main(["walk"]) == 1
    printed = capsys.readouterr()
    assert printed.err == f"error: walk: {reason}\n"
    assert "never" not in printed.out


def test_a_walk_without_curl_is_one_line(
    page: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(page.parent))
    assert main(["walk"]) == 1
    assert capsys.readouterr() == ("", "error: ./dev walk needs curl, which is not on the PATH\n")


def test_a_walk_without_a_stack_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MITOSIS_STACK_ROOT", str(tmp_path))
    assert main(["walk"]) == 1
    assert capsys.readouterr() == ("", "error: the stack is down; ./dev up starts it\n")


def test_variables_and_functions_of_a_command_are_known_to_the_next(sh: Shell) -> None:
    assert list(sh.run('hello() {\n  echo "hello $1" >&2; }')) == []
    assert list(sh.run("NAME=$NAME-2")) == []
    assert list(sh.run('hello "$NAME"; printf "no end of line"')) == [
        "hello Ada-2",
        "no end of line",
    ]
    assert list(sh.run("echo; false")) == [""]
    assert sh.status == 1


def test_a_command_that_reads_its_input_ends(sh: Shell) -> None:
    assert list(sh.run("cat")) == []
    assert list(sh.run("echo next")) == ["next"]


def test_an_open_quote_is_an_error_and_no_wait(sh: Shell) -> None:
    with pytest.raises(Failed, match="the shell ended at: echo 'a"):
        list(sh.run("echo 'a"))


def test_each_line_is_read_when_it_is_printed(sh: Shell, tmp_path: Path) -> None:
    printed = sh.run(f"echo first; until [ -e {tmp_path}/go ]; do :; done; echo last")
    assert next(printed) == "first"
    (tmp_path / "go").touch()
    assert list(printed) == ["last"]


def test_a_command_has_its_prompts_when_it_is_shown(
    sh: Shell, capsys: pytest.CaptureFixture[str]
) -> None:
    walk.check(sh, Command(lines=("echo a \\", "b"), output=("a b",)))
    assert capsys.readouterr().out == "$ echo a \\\n> b\na b\n"
