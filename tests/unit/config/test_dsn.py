from psycopg2.extensions import parse_dsn

from placement.provision import dsn_for


def test_a_dsn_keeps_the_server_and_replaces_the_rest() -> None:
    admin = "postgresql://postgres:secret@db.example.com:6543/postgres?sslmode=require"

    assert parse_dsn(dsn_for(admin, database="mitosis", role="orders", password="p@ss/w:rd")) == {
        "user": "orders",
        "password": "p@ss/w:rd",
        "host": "db.example.com",
        "port": "6543",
        "dbname": "mitosis",
        "sslmode": "require",
    }


def test_a_dsn_keeps_a_socket_an_ipv6_address_or_several_hosts() -> None:
    """The socket may be a Unix socket file or an abstract socket of Linux."""
    for host in ("@mitosis", "/var/run/postgresql", "::1"):
        parts = parse_dsn(dsn_for(f"host='{host}' port=5433 user=postgres", database="mitosis"))
        assert (parts["host"], parts["port"], parts["user"]) == (host, "5433", "postgres")

    several = "postgresql://postgres:x@one:5432,two:5433/postgres"
    parts = parse_dsn(dsn_for(several, database="mitosis"))
    assert (parts["host"], parts["port"], parts["user"]) == ("one,two", "5432,5433", "postgres")
