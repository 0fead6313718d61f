"""A misconfigured project gets one line from `check`, which names the cause and the cure.

Each case is a project of its own, in its own process, with a renamed copy of the outbox.
"""

import re
from pathlib import Path
from typing import Any

import pytest

from tests.support.small_projects import CONSUMERS, MODELS, PACKAGE, write_project

pytestmark = pytest.mark.timeout(120)  # each test starts a process
SQLITE = "DATABASES = {'default': {'ENGINE': 'django.db.backends.sqlite3', 'NAME': 'db'}}\n"
OWN_META = "(outbox.AbstractPosition):\n    class Meta:\n        db_table = 'positions'\n"
OWN_ID = "(outbox.AbstractParkedEvent):\n    id = AutoField(primary_key=True)\n"
LONG = "a_label_with_one_byte_more_than_forty_seven_byte"

CASES: dict[str, tuple[dict[str, Any], str, str]] = {
    "the app is missing": (
        {"settings": "INSTALLED_APPS = ['shop']\n"},
        f"outbox.E009) Models extend those of {PACKAGE}.models, but '{PACKAGE}' isn't in",
        f"Add '{PACKAGE}' to INSTALLED_APPS.",
    ),
    "a model is missing": (
        {"models": MODELS.replace("class State(outbox.AbstractState): ...\n", "")},
        "outbox.E001) shop has some outbox tables but no model of AbstractState.",
        f"Add the missing models to shop.models; {PACKAGE}.models lists them.",
    ),
    "another database": (
        {"settings": SQLITE},
        "outbox.E010) The outbox of shop is in 'default', which isn't PostgreSQL",
        "'django.db.backends.postgresql'",
    ),
    "a Meta of its own": (
        {"models": MODELS.replace("(outbox.AbstractPosition): ...\n", OWN_META)},
        "outbox.E011) shop.Position doesn't have the index on (consumer, producer, partition, id)",
        "`class Meta(AbstractPosition.Meta):`",
    ),
    "a long label": (
        {"label": LONG, "consumers": ""},
        f"outbox.E012) The label {LONG} is too long",
        "Set a label of at most 47 bytes in its AppConfig",
    ),
    "short ids": (
        {"models": MODELS.replace("(outbox.AbstractParkedEvent): ...\n", OWN_ID)},
        "outbox.E013) The ids of shop.ParkedEvent have 32 bits.",
        "Remove its own field 'id'",
    ),
    "a misspelled module": (
        {"module": "consumer"},
        "outbox.W002) shop has a module consumer, which the outbox doesn't read.",
        "rename it to consumers.py",
    ),
    "a misspelled name": (
        {"consumers": CONSUMERS.replace("CONSUMERS", "CONSUMER")},
        "outbox.E014) shop.consumers has CONSUMER, but no CONSUMERS.",
        "Rename it to CONSUMERS.",
    ),
    "a list of consumers": (
        {"consumers": "CONSUMERS = ['ledger']\n"},
        "outbox.E014) shop.consumers: CONSUMERS is a list, not a dict.",
        'CONSUMERS = {"ledger": {"orders.order.paid.v1": book}}',
    ),
    "an unknown producer": (
        {"consumers": CONSUMERS.replace("shop.", "shopp.")},
        "outbox.E007) The consumer ledger of shop reads the events of 'shopp', which is no",
        "Correct the first segment of its event types to 'shop', or add the label to",
    ),
    "one listed producer": (
        {
            "consumers": CONSUMERS.replace("shop.", "orders."),
            "settings": "OUTBOX_PRODUCERS='orders'",
        },
        "outbox.E002) OUTBOX_PRODUCERS is 'orders'.",
        "a list of the labels of other projects' services, e.g. ['orders'].",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_a_misconfiguration_is_one_finding_with_its_cure(tmp_path: Path, case: str) -> None:
    written, finding, cure = CASES[case]
    done = write_project(tmp_path, **written).manage("check", "--fail-level", "WARNING")
    assert done.status == 1, done.output
    assert len(re.findall(r"\((outbox|models)\.[EW]\d+\)", done.output)) == 1, done.output
    assert finding in done.output
    assert cure in done.output


def test_a_project_as_described_has_no_finding_with_ids_of_32_bits_elsewhere(
    tmp_path: Path,
) -> None:
    done = write_project(tmp_path).manage("check", "--fail-level", "DEBUG")
    assert done.status == 0, done.output


def test_without_a_driver_the_project_does_not_start_and_names_the_packages(tmp_path: Path) -> None:
    project = write_project(tmp_path)
    without = "import sys\nsys.modules['psycopg2'] = sys.modules['psycopg'] = None\n"
    (tmp_path / "sitecustomize.py").write_text(without)
    done = project.manage("check")
    assert done.status == 1
    assert done.output.splitlines()[-1].endswith(
        f"{PACKAGE} needs a driver of PostgreSQL: install psycopg2-binary or psycopg[binary]"
    )
