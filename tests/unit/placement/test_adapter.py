"""placement finds the project's outbox under any name, and doesn't need one."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.surroundings import CHECKOUT

pytestmark = pytest.mark.timeout(120)  # each test starts a process
SCRIPT = """
import sys
from importlib import import_module
from django.conf import settings
apps = sys.argv[1:]
settings.configure(INSTALLED_APPS=[*apps, "placement"], OUTBOX_STREAMS_URL="redis://127.0.0.1:9/0")
import django
django.setup()
from placement import events
from placement.replicas.middleware import ConsistencyToken
written = events.last_write.get()
events.last_write.set({"shop": 7})
assert events.last_xid("shop") == 7
if events.HAS_OUTBOX:
    views = import_module("placement.replicas.views")
    assert import_module(f"{apps[0]}.recorder").last_write.get() == {"shop": 7}
    assert views.awaiting.__name__ == f"{apps[0]}.agreeing.awaiting"
print(events.HAS_OUTBOX, *(name for name in ("outbox", "celery") if name in sys.modules))
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A project outside the checkout that has another package with the name `outbox`."""
    unwanted = shutil.ignore_patterns("__pycache__")
    shutil.copytree(CHECKOUT / "placement", tmp_path / "placement", ignore=unwanted)
    shutil.copytree(CHECKOUT / "outbox", tmp_path / "mitosis_outbox", ignore=unwanted)
    (tmp_path / "outbox").mkdir()
    (tmp_path / "outbox" / "__init__.py").touch()
    return tmp_path


@pytest.mark.parametrize(
    ("apps", "printed"),
    [
        ([], "False celery\n"),
        (["outbox"], "False outbox celery\n"),
        (["mitosis_outbox"], "True celery\n"),
    ],
    ids=["none", "another package", "another name"],
)
def test_the_outbox_is_the_installed_app_that_has_its_modules(
    project: Path, apps: list[str], printed: str
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, *apps],
        cwd=project,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, printed), done.stdout


WITHOUT_PACKAGES = """
import sys
class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"celery", "redis", "xxhash", "msgspec"}:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Missing())
import importlib.util
real = importlib.util.find_spec
importlib.util.find_spec = lambda name, *rest: None if name == "celery" else real(name, *rest)
from django.conf import settings
settings.configure(INSTALLED_APPS=["placement"])
import django
django.setup()
from django.core.management import call_command
from placement import router
from placement.replicas import middleware
call_command("status")
"""


def test_the_split_needs_neither_celery_nor_the_packages_of_the_ring(project: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_PACKAGES],
        cwd=project,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, ""), done.stdout
