"""Django's own tests of a cache backend, run against the ring."""

import json
import os
import subprocess
import sys
from typing import Final

import pytest

from tests.integration.ring.conftest import Servers
from tests.support import surroundings
from tests.support.django_suite import folder_of_tests

# The ring refuses these values: only a pickle can store an object of any class.
NEEDS_PICKLE: Final = {
    "test_add_fail_on_pickleerror",  # an object of a class of the tests
    "test_set_fail_on_pickleerror",
    "test_cache_read_for_model_instance",  # a model instance
    "test_cache_read_for_model_instance_with_deferred",  # a QuerySet
    "test_cache_write_for_model_instance_with_deferred",
    "test_data_types (key='class')",
    "test_data_types (key='function')",
}
# The servers limit the memory; a backend with this suite's limit of entries would evict by itself.
NEEDS_CULLING: Final = {"test_cull", "test_cull_delete_when_store_empty", "test_zero_cull"}


@pytest.mark.long
def test_the_ring_passes_all_tests_of_a_cache_backend_except_those_that_pickle(
    servers: Servers,
) -> None:
    addresses = {
        "STREAMS_URL": servers.store.url,
        "CACHE_URLS": ",".join(node.url for node in servers.nodes),
    }
    done = subprocess.run(
        [sys.executable, "-m", "tests.support.django_suite", str(folder_of_tests())],
        cwd=surroundings.CHECKOUT,
        env={"PATH": os.environ["PATH"], **addresses},
        capture_output=True,
        text=True,
        timeout=150,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)

    assert set(report["failed"]) == NEEDS_PICKLE, report["failed"]
    assert {error.partition(":")[0] for error in report["failed"].values()} == {
        "placement.ring.values.NotCacheable"
    }
    assert set(report["skipped"]) == NEEDS_CULLING
    assert report["run"] > 50
