import os
import subprocess
import sys

import pytest

from tests.support.surroundings import CHECKOUT, variables


@pytest.mark.parametrize("buffering", ["", "1"])
def test_a_command_prints_no_error_when_its_reader_has_closed_the_pipe(buffering: str) -> None:
    read, write = os.pipe()
    os.close(read)
    try:
        done = subprocess.run(
            [sys.executable, "manage.py", "help", "--commands"],
            cwd=CHECKOUT,
            env={**variables("all"), "PATH": os.environ["PATH"], "PYTHONUNBUFFERED": buffering},
            stdout=write,
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
            check=False,
        )
    finally:
        os.close(write)
    assert (done.returncode, done.stderr) == (1, "")
