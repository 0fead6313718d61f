"""Small projects that have a copy of the outbox under another name, in a folder of their own."""

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from urllib.parse import urlsplit

from tests.support.manage import Outcome
from tests.support.surroundings import CHECKOUT, NOWHERE

PACKAGE = "events_box"  # so that no message can name the folder by accident
TABLES = ("OutboxEvent", "Tick", "Position", "ParkedEvent", "Subscription", "State")

MODELS = "".join(f"class {name}(outbox.Abstract{name}): ...\n" for name in TABLES)
CONSUMERS = """
CONSUMERS = {"ledger": {"shop.item.sold.v1": print, "shop.item.seen.v1": ignore}}
"""

SETTINGS = """
SECRET_KEY = "for tests only"
USE_TZ = True
DEFAULT_AUTO_FIELD = "django.db.models.AutoField"
INSTALLED_APPS = ["{package}", "{label}"]
DATABASES = {{"default": {{"ENGINE": "django.db.backends.postgresql", **{database!r}}}}}
OUTBOX_STREAMS_URL = {streams!r}
"""


@dataclass(frozen=True, slots=True)
class SmallProject:
    folder: Path

    def manage(self, *arguments: str) -> Outcome:
        """Run a command of Django to its end, for at most a minute."""
        done = subprocess.run(
            [sys.executable, "-W", "error", "-m", "django", *arguments],
            cwd=self.folder,
            env={
                **os.environ,
                "PYTHONPATH": str(self.folder),
                "DJANGO_SETTINGS_MODULE": "settings",
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=60,
            check=False,
        )
        return Outcome(status=done.returncode, output=done.stdout)


def with_table_names(*forms: str) -> str:
    """The models with a `db_table` of their own, in turn of these forms, with the model's name."""
    return "".join(
        f"class {name}(outbox.Abstract{name}):\n"
        f"    class Meta(outbox.Abstract{name}.Meta):\n        db_table = {form.format(name)!r}\n"
        for name, form in zip(TABLES, cycle(forms), strict=False)
    )


def write_project(
    folder: Path,
    *,
    label: str = "shop",
    models: str = MODELS,
    consumers: str = CONSUMERS,
    settings: str = "",
    module: str = "consumers",
    database_url: str = f"postgresql://shop:x@{NOWHERE}/nowhere",
    streams_url: str = f"redis://{NOWHERE}/0",
) -> SmallProject:
    """Write the project. `settings` are further lines; `module` has the consumers."""
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(CHECKOUT / "outbox", folder / PACKAGE, ignore=ignored)
    app = folder / label
    app.mkdir()
    (app / "__init__.py").touch()
    (app / "models.py").write_text(
        f"from django.db.models import *\nfrom {PACKAGE} import models as outbox\n{models}"
    )
    if consumers:
        names = f"from {PACKAGE}.consumer import Batched, ignore\n"
        (app / f"{module}.py").write_text(names + consumers)
    url = urlsplit(database_url)
    database = {
        "NAME": url.path[1:],
        "USER": url.username,
        "PASSWORD": url.password,
        "HOST": (url.hostname or "").replace("%40", "@"),
        "PORT": url.port,
    }
    written = SETTINGS.format(package=PACKAGE, label=label, database=database, streams=streams_url)
    (folder / "settings.py").write_text(written + settings)
    return SmallProject(folder)
