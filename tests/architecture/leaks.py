"""Finds generated keys, tokens and passwords in the checkout: `python -m tests.architecture.leaks`.

Each of them is a run of random letters and digits. The scan prints the place of each hit, never the
secret, and exits with status 1 if there is any. No comment accepts a line: a test computes such an
example instead.
"""

import re
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

CHECKOUT: Final = Path(__file__).resolve().parents[2]
NOT_WRITTEN_HERE: Final = re.compile(  # hashes, a commit, scripts
    r"(^|/)(requirements[^/]*\.txt|previous-release\.txt|vendor/.*)$"
)
LONG: Final = re.compile(r"[\w+-]{20,}", re.ASCII)
# The stack's password of the administrator has 16 digits. Shorter runs are mostly commits.
HEX: Final = re.compile(r"(?<![\w+-])(?=\d*[a-f])(?=[a-f]*\d)[\da-f]{16,19}(?![\w+-])", re.ASCII)
# The digits themselves, and the ids in the examples of W3C Trace Context.
EXAMPLES: Final = {"0123456789abcdef", "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"}


def is_random(run: str) -> bool:
    """Whether this is like a key in hex or Base64, and unlike a name, a number or a UUID."""
    digits = sum(map(str.isdigit, run))
    letters = sum(map(str.isalpha, run))
    has_both_cases = run not in {run.lower(), run.upper()}
    return digits >= 3 and letters >= 3 and (has_both_cases or run.isalnum())


def secrets(line: str) -> Iterator[str]:
    found = [*filter(is_random, LONG.findall(line)), *HEX.findall(line)]
    return (run for run in found if run not in EXAMPLES)


def leaks(files: Iterable[Path]) -> Iterator[tuple[Path, int]]:
    """The file and the number of each line with a secret. Pictures have no lines."""
    for file in files:
        content = file.read_bytes()
        lines = [] if b"\0" in content else content.decode(errors="ignore").splitlines()
        for number, line in enumerate(lines, start=1):
            if any(secrets(line)):
                yield file, number


def main() -> int:
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],  # noqa: S607
        cwd=CHECKOUT,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    ).stdout
    names = [name for name in listed.split("\0") if name and not NOT_WRITTEN_HERE.search(name)]
    found = list(leaks(path for path in map(CHECKOUT.joinpath, names) if path.is_file()))
    for file, number in found:
        sys.stdout.write(f"{file.relative_to(CHECKOUT)}:{number}: a secret\n")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
