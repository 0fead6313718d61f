"""`python -m stack …`: `./dev` runs it for the verbs that use or start the stack, and for lint."""

import argparse
import json
import sys
from collections.abc import Callable, Sequence

from . import commands, report, walk
from .demo import command as demo_command
from .environment import stack_root
from .errors import StackError, explained
from .shapes import DIVIDED, MONOLITH, OWN_SERVERS
from .show import command as show_command
from .terminal import show


def main(arguments: Sequence[str]) -> int:
    """Run one verb and return the exit status. A failure prints one line to stderr."""
    verb, *rest = arguments or ["--help"]
    try:
        if verb in _DJANGO_COMMANDS:
            _DJANGO_COMMANDS[verb](stack_root(), rest)
        options = _parser().parse_args(arguments)
        run: Callable[[argparse.Namespace], int | None] = options.run
        return run(options) or 0
    except StackError as error:
        message = str(error)
    except OSError as error:
        message = str(explained(error, stack_root()))
    sys.stderr.write(f"error: {message}\n")
    return 1


# Django, not argparse, parses the arguments and options of these verbs.
_DJANGO_COMMANDS = {
    "manage": commands.manage,
    "journey": commands.journey,
    "production": commands.production,
}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="./dev",
        allow_abbrev=False,
        description="Start, inspect and stop the embedded stack.",
        epilog="manage … runs manage.py in the stack's environment",
    )
    verbs = parser.add_subparsers(dest="verb", required=True)
    up = verbs.add_parser(
        "up", allow_abbrev=False, help="start servers and processes; Ctrl-C stops them"
    )
    up.set_defaults(run=_up)
    up.add_argument(
        "--services", action="store_true", help="start two deployments instead of the monolith"
    )
    up.add_argument(
        "--own-servers",
        action="store_true",
        help="with --services: a PostgreSQL server for each deployment; moves the data",
    )
    up.add_argument("--detach", action="store_true", help="return when everything is ready")
    up.add_argument("--background", action="store_true", help=argparse.SUPPRESS)
    down = verbs.add_parser(
        "down", allow_abbrev=False, help="stop the stack, also from another terminal"
    )
    down.set_defaults(run=_down)
    status = verbs.add_parser("status", allow_abbrev=False, help="print processes and addresses")
    status.set_defaults(run=_status)
    status.add_argument("--json", action="store_true", help="print JSON, with all addresses")
    shown = verbs.add_parser(
        "show", allow_abbrev=False, help="show and check a technique on the running stack"
    )
    shown.set_defaults(run=_show)
    shown.add_argument("technique", nargs="?", help="without a name, list the techniques")
    shown.add_argument(
        "--without", action="store_true", help="turn the technique off, so that the show fails"
    )
    walked = verbs.add_parser(
        "walk", allow_abbrev=False, help="run README's walk with curl, and check what it prints"
    )
    walked.set_defaults(run=lambda _: walk.run(stack_root()))
    demo = verbs.add_parser(
        "demo", allow_abbrev=False, help="make traffic on the running stack, and show its effects"
    )
    demo.set_defaults(run=_demo)
    demo.add_argument(
        "--minutes",
        default=demo_command.MINUTES,
        help=f"default {demo_command.MINUTES}, at most {demo_command.MINUTES_RANGE[1]:g}",
    )
    demo.add_argument(
        "--rate",
        default=demo_command.RATE,
        help="requests a second, of all customers; "
        f"default {demo_command.RATE}, at most {demo_command.RATE_RANGE[1]:g}",
    )
    clean = verbs.add_parser("clean", allow_abbrev=False, help="stop the stack and delete its data")
    clean.set_defaults(run=lambda _: commands.clean_checkout(stack_root()))
    return parser


def _up(options: argparse.Namespace) -> int:
    if options.own_servers and not options.services:
        raise StackError("--own-servers needs --services: the monolith uses one server")
    shape = OWN_SERVERS if options.own_servers else DIVIDED if options.services else MONOLITH
    if options.detach:
        return commands.up_detached(stack_root(), shape=shape)
    commands.up(stack_root(), shape=shape, detached=options.background)
    return 0


def _down(_: argparse.Namespace) -> None:
    show(commands.down(stack_root()))


def _status(options: argparse.Namespace) -> None:
    root = stack_root()
    show(json.dumps(report.status(root), indent=1) if options.json else report.status_text(root))


def _show(options: argparse.Namespace) -> int:
    return show_command.run(stack_root(), options.technique, without=options.without)


def _demo(options: argparse.Namespace) -> int:
    return demo_command.run(stack_root(), minutes=options.minutes, rate=options.rate)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
