"""Finds passwords, keys and tokens in the checkout: `python -m tests.architecture.leaks`.

The scan needs no network. It prints the place of each hit, never the secret, and exits with status
1 if there is any. `# pragma: allowlist secret` at the end of a line accepts this line.
"""

import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from detect_secrets.plugins.base import RegexBasedDetector

CHECKOUT: Final = Path(__file__).resolve().parents[2]
NOT_WRITTEN_HERE: Final = r"(^|/)(requirements[^/]*\.txt|vendor/.*)$"  # hashes, minified scripts
# Values of examples and tests: a well-known word, or several short words. A generated secret has
# neither form.
EXAMPLES: Final = (
    r"^(password|secret|s3cret|faults|plain|wrong|p@ss/w:rd)$|"
    r"^(?!BEGIN )[A-Za-z0-9]{1,10}([ -][A-Za-z0-9]{1,10})+-?$"
)


class PasswordWithoutUser(RegexBasedDetector):
    """Finds redis://:password@host; the library's own rule needs a user's name."""

    secret_type = "Password in a URL"
    denylist = (re.compile(r"://:([^\s/@{}$<]{8,})@"),)


def scan(files: Sequence[str], *, within: Path) -> tuple[int, str]:
    """Return the exit status and the output of the scan of these files."""
    done = subprocess.run(
        [
            *(sys.executable, "-m", "detect_secrets.pre_commit_hook", "--no-verify"),
            *("--plugin", __file__, "--exclude-files", NOT_WRITTEN_HERE),
            *("--exclude-secrets", EXAMPLES, *files),
        ],
        cwd=within,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout


def main() -> int:
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],  # noqa: S607
        cwd=CHECKOUT,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    ).stdout
    files = [name for name in listed.split("\0") if name and (CHECKOUT / name).is_file()]
    status, output = scan(files, within=CHECKOUT)
    sys.stdout.write(output)
    return status


if __name__ == "__main__":
    sys.exit(main())
