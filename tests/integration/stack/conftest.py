import io
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from stack.errors import StackError
from stack.servers import Servers
from stack.terminal import Output


@pytest.fixture
def root() -> Iterator[Path]:
    """A data root that every user can reach; its servers are stopped after the test."""
    folder = Path(tempfile.mkdtemp(prefix="mitosis-stack-"))
    folder.chmod(0o755)
    yield folder
    with suppress(StackError):
        Servers(folder).stop()
    shutil.rmtree(folder)


@pytest.fixture
def stream() -> io.StringIO:
    """The stream that the output writes to."""
    return io.StringIO()


@pytest.fixture
def output(tmp_path: Path, stream: io.StringIO) -> Iterator[Output]:
    output = Output(tmp_path / "log" / "dev.log", stream=stream)
    yield output
    output.close()
