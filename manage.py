#!/usr/bin/env python
"""Django's command line. SERVICE decides which services are installed."""

import os
import select
import sys


def main() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
    from django.core.management import execute_from_command_line

    try:
        execute_from_command_line(sys.argv)
        sys.stdout.flush()
    except BrokenPipeError:
        if _has_reader():
            raise
        # The reader (such as `head`) has closed the pipe. The flush at exit must not fail again.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)


def _has_reader() -> bool:
    """Whether the other end of stdout is open."""
    poll = select.poll()
    poll.register(sys.stdout, 0)
    return not poll.poll(0)


if __name__ == "__main__":
    main()
