"""Runs Django's own tests of a cache backend against the cache ring, in a process of its own.

`python -m tests.support.django_suite FOLDER` prints {"run": number, "skipped": [name, …],
"failed": {name: error}} as JSON. FOLDER has Django's package of tests; STREAMS_URL and CACHE_URLS
are the addresses of the ring.
"""

import hashlib
import io
import json
import os
import subprocess
import sys
import tarfile
import tomllib
import unittest
from pathlib import Path
from typing import Any, Final
from urllib.request import urlopen

import django
from django.conf import settings

from tests.support.surroundings import CHECKOUT, ROOT

LOCK: Final = CHECKOUT / "requirements.txt"
UV: Final = CHECKOUT / ".venv" / "bin" / "uv"
DOWNLOAD_SECONDS: Final = 60
PATIENCE_SECONDS: Final = 10.0  # a busy machine may stall although nodes and store work


def folder_of_tests() -> Path:
    """The folder with Django's package `cache`; downloads the locked Django's source if needed.

    Only the source archive has these tests. They aren't in this repository: they are 120 kB of
    foreign code, and each version of Django has its own.
    """
    folder = ROOT / f"django-{django.__version__}"
    if not folder.exists():
        partial = folder.with_suffix(f".{os.getpid()}")
        with tarfile.open(fileobj=io.BytesIO(_source_archive())) as archive:
            prefix = f"{folder.name}/tests/cache/"
            for member in archive.getmembers():
                if member.name.startswith(prefix) and member.isfile():
                    member.name = f"cache/{member.name.removeprefix(prefix)}"
                    archive.extract(member, partial, filter="data")
        partial.replace(folder)
    return folder


def _source_archive() -> bytes:
    """Download the archive whose hash is in the lock. uv knows the developer's package index."""
    done = subprocess.run(
        [UV, "pip", "compile", "-", "--no-deps", "--no-header", "--format", "pylock.toml"],
        input=f"django=={django.__version__}",
        capture_output=True,
        text=True,
        timeout=DOWNLOAD_SECONDS,
        check=True,
    )
    source = tomllib.loads(done.stdout)["packages"][0]["sdist"]
    with urlopen(source["url"], timeout=DOWNLOAD_SECONDS) as answer:  # noqa: S310 - see the hash
        archive: bytes = answer.read()
    digest = hashlib.sha256(archive).hexdigest()
    if f"--hash=sha256:{digest}" not in LOCK.read_text(encoding="utf-8"):
        raise ValueError(f"{source['url']}: the hash {digest} isn't in {LOCK.name}")
    return archive


def run(folder: str) -> dict[str, Any]:
    sys.path.insert(0, folder)
    settings.configure(
        DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}},
        INSTALLED_APPS=["cache"],
        DEFAULT_AUTO_FIELD="django.db.models.BigAutoField",
    )
    django.setup()
    from cache.tests import BaseCacheTests, caches_setting_for_tests
    from django.test import TestCase, override_settings
    from django.test.runner import DiscoverRunner

    from placement.ring import nodes

    nodes.NODE_TIMEOUT_SECONDS = nodes.STORE_TIMEOUT_SECONDS = PATIENCE_SECONDS
    ring = caches_setting_for_tests(
        BACKEND="placement.ring.cache.RingCache",
        LOCATION=os.environ["CACHE_URLS"].split(","),
        OPTIONS={"STORE": os.environ["STREAMS_URL"]},
        exclude={"cull", "zero_cull"},  # the servers evict, as for Django's own RedisCache
    )
    tests = override_settings(CACHES=ring)(type("RingTests", (BaseCacheTests, TestCase), {}))
    runner = DiscoverRunner(verbosity=0, interactive=False)
    runner.setup_test_environment()
    databases = runner.setup_databases()
    try:
        result = unittest.TestResult()
        unittest.defaultTestLoader.loadTestsFromTestCase(tests).run(result)
    finally:
        runner.teardown_databases(databases)
    return {
        "run": result.testsRun,
        "skipped": [_name(test) for test, _ in result.skipped],
        "failed": {
            _name(test): traceback.strip().splitlines()[-1]
            for test, traceback in [*result.failures, *result.errors]
        },
    }


def _name(test: Any) -> str:
    return str(test.id().rpartition(".")[2])  # a subtest has its parameters in its name


if __name__ == "__main__":
    json.dump(run(sys.argv[1]), sys.stdout)
