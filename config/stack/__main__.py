"""`python -m config.stack …`, which `./dev` and `manage.py stack` call."""

import argparse
import json
import sys
from collections.abc import Sequence

from config.stack import commands, report
from config.stack.environment import stack_root
from config.stack.errors import StackError, explained
from config.stack.shapes import MONOLITH


def main(arguments: Sequence[str]) -> int:
    """The exit status. Every failure is one line on stderr."""
    root = stack_root()
    try:
        return _run(_parser().parse_args(arguments))
    except StackError as error:
        message = str(error)
    except OSError as error:
        message = str(explained(error, root))
    sys.stderr.write(f"error: {message}\n")
    return 1


def _run(options: argparse.Namespace) -> int:
    root = stack_root()
    match options.command:
        case "up" if options.detach:
            return commands.up_detached(root, shape=options.shape)
        case "up":
            commands.up(root, shape=options.shape, detached=options.background)
        case "down":
            _say(commands.down(root))
        case "status" if options.json:
            _say(json.dumps(report.status(root), indent=1))
        case "status":
            _say(report.status_text(root))
        case "manage":
            commands.manage(root, options.arguments)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="stack", description="The embedded stack.")
    commands = parser.add_subparsers(dest="command", required=True)
    up = commands.add_parser("up", help="start servers and processes; Ctrl-C stops them")
    up.add_argument(
        "--services",
        action="store_const",
        dest="shape",
        const="services",
        default=MONOLITH,
        help="two deployments instead of the monolith",
    )
    up.add_argument("--detach", action="store_true", help="return when everything is ready")
    up.add_argument("--background", action="store_true", help=argparse.SUPPRESS)
    commands.add_parser("down", help="stop what runs, wherever it was started")
    status = commands.add_parser("status", help="what runs, and where")
    status.add_argument("--json", action="store_true", help="one object, with all addresses")
    manage = commands.add_parser("manage", help="manage.py with the stack's environment")
    manage.add_argument("arguments", nargs=argparse.REMAINDER)
    return parser


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
