#!/usr/bin/env python
"""Django's command line, for whichever shape SERVICE names."""

import os
import sys


def main() -> None:
    if sys.argv[1:2] == ["stack"]:
        # Before any settings: it makes the environment that they are read from.
        from config.stack.__main__ import main as stack

        sys.exit(stack(sys.argv[2:]))
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
    from django.core.management import execute_from_command_line

    execute_from_command_line(sys.argv)


if __name__ == "__main__":
    main()
