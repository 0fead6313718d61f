"""Finds the Chromium of this machine: `python -m tests.browser.chromium` prints its path."""

import os
import shutil
import sys
from typing import Any, Final

NAMES: Final = ("chromium", "chromium-browser", "google-chrome")
MISSING: Final = (
    "the browser tests need Chromium, and none of these programs is on the PATH: "
    f"{', '.join(NAMES)}. On Debian: apt-get install --no-install-recommends chromium"
)


class NoChromium(Exception):
    """The message says how to install it."""


def executable() -> str:
    """Raises NoChromium."""
    for name in NAMES:
        if found := shutil.which(name):
            return found
    raise NoChromium(MISSING)


def launch_options() -> dict[str, Any]:
    """Playwright's options for a browser that can't reach another host. Raises NoChromium."""
    return {
        "executable_path": executable(),
        "chromium_sandbox": os.geteuid() != 0,  # Chromium's sandbox refuses to work for root
        "args": ["--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"],
    }


if __name__ == "__main__":
    try:
        print(executable())  # noqa: T201
    except NoChromium as missing:
        sys.exit(f"error: {missing}")
