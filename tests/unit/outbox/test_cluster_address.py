"""The address of a Redis Cluster: one user and some of its nodes."""

import pytest

from outbox.errors import Unconfigured
from outbox.streams.cluster import Address, is_cluster


def test_an_address_names_some_nodes_and_one_login_for_all() -> None:
    address = Address.of(
        "rediss-cluster://shop:p%40ss@one:7000,[::1]:7001,three/0?ssl_cert_reqs=none"
    )
    assert is_cluster("redis-cluster://one/0")
    assert not is_cluster("redis://one/0")
    assert address.nodes == [("one", 7000), ("::1", 7001), ("three", 6379)]
    assert [address.url_of(node) for node in address.nodes] == [
        "rediss://shop:p%40ss@one:7000/0?ssl_cert_reqs=none",
        "rediss://shop:p%40ss@[::1]:7001/0?ssl_cert_reqs=none",
        "rediss://shop:p%40ss@three:6379/0?ssl_cert_reqs=none",
    ]


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("redis-cluster://shop:s3cret@one:7000/1", "another database than 0"),
        ("redis-cluster://shop:s3cret@one:7000,/0", "a node without host:port"),
        ("redis-cluster://shop:s3/cret@one:7000/0", "a node without host:port"),
        ("redis-cluster://shop:s3cret@one:seven/0", "a node without host:port"),
        ("redis-cluster://", "a node without host:port"),
        ("redis-cluster://shop:x[s3cret]x@one:7000/0", "can't be read: percent-encode"),
        ("redis-cluster://shop:s3cret@one:7000/0?socket_timeout=x", "correct its options"),
        ("redis-cluster://shop:s3cret@one:7000/0?timout=5", "correct its options"),
    ],
)
def test_a_wrong_address_is_refused_and_its_password_never_shown(url: str, why: str) -> None:
    with pytest.raises(Unconfigured, match=why) as refused:
        Address.of(url)
    assert "s3" not in str(refused.value)
    assert "cret" not in str(refused.value)
    assert refused.value.__suppress_context__ or not refused.value.__context__  # also a traceback


def test_a_password_is_not_in_the_repr_of_an_address() -> None:
    assert "s3cret" not in repr(Address.of("redis-cluster://shop:s3cret@one:7000/0"))
