"""The commands and paragraphs of a Markdown page."""

import pytest

from stack import console
from stack.console import Command

PAGE = """\
# A project

```console
$ ./dev up
```

## A walk

Read [the rules](docs/api.md)
of `field` first.

1. In a list:

   ```console
   $ curl $ORDERS/api/ \\
       -d '{"a": 1}'
   {"id": "$ORDERS is no command here"}
     > nor is this
   $ TOKEN=$(curl "${ACCOUNTS}/api/token/" |
   >   jq -r .access)
   ```

## The end
"""


def test_a_section_has_paragraphs_and_commands_with_their_output() -> None:
    assert list(console.steps(console.section(PAGE, "A walk"))) == [
        "Read the rules of `field` first.",
        "1. In a list:",
        Command(
            lines=("curl $ORDERS/api/ \\", """-d '{"a": 1}'"""),
            output=('{"id": "$ORDERS is no command here"}', "  > nor is this"),
        ),
        Command(lines=('TOKEN=$(curl "${ACCOUNTS}/api/token/" |', "  jq -r .access)")),
    ]


def test_a_command_is_shown_with_the_prompts_of_a_shell_and_run_without() -> None:
    first, *_, last = console.commands(PAGE)
    assert first.typed == "$ ./dev up"
    assert last.typed == '$ TOKEN=$(curl "${ACCOUNTS}/api/token/" |\n>   jq -r .access)'
    assert console.script([first, last]) == (
        './dev up\nTOKEN=$(curl "${ACCOUNTS}/api/token/" |\n  jq -r .access)'
    )


def test_a_missing_section_is_an_error() -> None:
    with pytest.raises(KeyError):
        console.section(PAGE, "A project")
