"""Runs the browser tests, or takes pictures of the pages, in an environment of their own.

Playwright runs an event loop, in which Django refuses to use the ORM. So these tests don't share a
process, or packages, with the others.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NoReturn

from tests.browser.chromium import NoChromium, executable
from tests.support.environments import python_with

HERE: Final = Path(__file__).parent
LOCK: Final = HERE / "requirements.txt"
SETTINGS: Final = HERE / "pytest.ini"


def main(arguments: Sequence[str]) -> NoReturn:
    parser = argparse.ArgumentParser(prog="./dev test --browser", allow_abbrev=False)
    parser.add_argument("--smoke", action="store_true", help="run one test in one shape")
    parser.add_argument("--pictures", metavar="FOLDER", help="only take pictures of the pages")
    parser.add_argument(
        "--stack", metavar="FOLDER", help="use the stack of this folder, which is up"
    )
    chosen, rest = parser.parse_known_args(arguments)
    try:
        executable()
        python = python_with(LOCK)
    except (NoChromium, RuntimeError) as error:
        sys.exit(f"error: {error}")
    command = [str(python), "-m"]
    if chosen.pictures:
        command += ["tests.browser.pictures", chosen.pictures, *rest]
    else:
        command += ["pytest", "--rootdir=.", "-c", str(SETTINGS), *rest]
        command += ["--smoke"] if chosen.smoke else []
        command += [f"--stack={chosen.stack}"] if chosen.stack else []
    sys.stdout.flush()
    os.execv(python, command)  # noqa: S606 - needs no shell


if __name__ == "__main__":
    main(sys.argv[1:])
