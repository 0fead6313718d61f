"""On an old stream server, scripts get round the rights of users: the log says so once."""

import logging
from unittest.mock import patch

import pytest

from outbox.streams import client

URL = "redis://127.0.0.1:9/0"


def warnings(caplog: pytest.LogCaptureFixture, **server: str) -> list[str]:
    """Of two checks, such as those of a relay that starts again."""
    caplog.clear()
    client._warn_unless_patched.cache_clear()
    streams = client.Streams(URL, partitions=1)
    answers = [server, {"maxmemory_policy": "noeviction"}] * 2
    with (
        patch.object(streams._servers.first.client, "info", side_effect=answers),
        caplog.at_level(logging.WARNING, logger=client.__name__),
    ):
        streams.check()
        streams.check()
    return [record.getMessage() for record in caplog.records if record.name == client.__name__]


@pytest.mark.parametrize("version", ["7.0.15", "7.2.10", "7.4.5", "8.0.3", "8.2.1"])
def test_a_redis_whose_rights_do_not_hold_is_named_once(
    caplog: pytest.LogCaptureFixture, version: str
) -> None:
    [line] = warnings(caplog, redis_version=version)
    assert f"Redis {version}: a script of one user" in line


@pytest.mark.parametrize("version", ["7.2.11", "7.4.6", "8.0.4", "8.2.2", "8.4.0", "10.0.1"])
def test_a_patched_redis_is_accepted_silently(
    caplog: pytest.LogCaptureFixture, version: str
) -> None:
    assert warnings(caplog, redis_version=version) == []


@pytest.mark.parametrize(
    ("version", "count"),
    [("7.2.10", 1), ("8.0.5", 1), ("8.1.3", 1), ("7.2.11", 0), ("8.1.4", 0), ("9.1.2", 0)],
)
def test_a_valkey_is_judged_by_its_own_version(
    caplog: pytest.LogCaptureFixture, version: str, count: int
) -> None:
    found = warnings(caplog, redis_version="7.2.4", server_name="valkey", valkey_version=version)
    assert [line.partition(":")[0] for line in found] == (
        [f"the stream server is Valkey {version}"] * count
    )
