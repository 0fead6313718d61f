"""placement works without the outbox. Consistency tokens then contain only LSNs."""

import subprocess
import sys

from tests.support.surroundings import CHECKOUT

# An import hook hides `outbox`, as in a project without this package.
SCRIPT = """
import sys
from importlib import import_module
class Hidden:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "outbox":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return None
import importlib.util
real = importlib.util.find_spec
importlib.util.find_spec = lambda name, *rest: None if name == "outbox" else real(name, *rest)
sys.meta_path.insert(0, Hidden())
from django.conf import settings
settings.configure(PLACEMENT_HOMES={}, PLACEMENT_REPLICAS={}, PLACEMENT_SERVICES=("shop",))
import django
django.setup()
from placement import events
from placement.management.commands.status import Command
from placement.replicas.middleware import ConsistencyToken
import_module("placement.router")
import_module("placement.ring.cache")
assert events.last_xid("shop") is None
with events.outbox_status(Command()) as (report, show):
    show()
    print(report, "outbox" in sys.modules)
"""


def test_tokens_router_ring_and_status_work_without_an_outbox() -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        cwd=CHECKOUT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=30,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "{'services': {}} False\n"), done.stdout
