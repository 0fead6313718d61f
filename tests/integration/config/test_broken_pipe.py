import os
import subprocess
import sys

from tests.support.surroundings import CHECKOUT, variables


def test_a_command_prints_no_error_when_its_reader_has_closed_the_pipe() -> None:
    read, write = os.pipe()
    os.close(read)
    commands = {
        unbuffered: subprocess.Popen(
            [sys.executable, "manage.py", "help", "--commands"],
            cwd=CHECKOUT,
            env={**variables("all"), "PATH": os.environ["PATH"], "PYTHONUNBUFFERED": unbuffered},
            stdout=write,
            stderr=subprocess.PIPE,
            text=True,
        )
        for unbuffered in ("", "1")
    }
    os.close(write)
    for unbuffered, command in commands.items():
        _, errors = command.communicate(timeout=60)
        assert (command.returncode, errors) == (1, ""), f"PYTHONUNBUFFERED={unbuffered}"
