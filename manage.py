#!/usr/bin/env python
"""Django's command line, for whichever shape SERVICE names."""

import os
import select
import sys


def main() -> None:
    if sys.argv[1:2] == ["stack"]:
        # Before any settings: it makes the environment that they are read from.
        from stack.__main__ import main as stack

        sys.exit(stack(sys.argv[2:]))
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
    from django.core.management import execute_from_command_line

    try:
        execute_from_command_line(sys.argv)
        sys.stdout.flush()
    except BrokenPipeError:
        if _is_read():
            raise
        # Whoever read has seen enough, as `head` does. The rest must not fail once more at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)


def _is_read() -> bool:
    """Whether what we print has a reader."""
    poll = select.poll()
    poll.register(sys.stdout, 0)
    return not poll.poll(0)


if __name__ == "__main__":
    main()
