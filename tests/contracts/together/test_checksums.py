"""accounts and orders compute the same checksum for a user and its copy.

The two services may not import each other. If the columns differed in number, order or type,
the checksums of every row would differ.
"""

from accounts import queries as owner
from orders import reconcile as copy
from outbox.agreeing.checksums import Checksums

TEXTS = {"CharField", "TextField"}  # PostgreSQL hashes varchar as text


def kinds(checksums: Checksums) -> list[tuple[str, str, object]]:
    """Returns each column's name, and its type as the hash function sees it."""
    fields = [checksums.model._meta.get_field(name) for name in checksums.columns]
    types = [field.get_internal_type() for field in fields]
    return [
        (name, "text" if type_ in TEXTS else type_, getattr(field, "decimal_places", None))
        for name, type_, field in zip(checksums.columns, types, fields, strict=True)
    ]


def test_both_services_hash_the_same_columns_types_and_order() -> None:
    assert kinds(owner.CHECKSUMS) == kinds(copy.CHECKSUMS)


def test_every_column_of_the_copy_is_compared() -> None:
    fields = copy.CHECKSUMS.model._meta.concrete_fields
    assert {field.name for field in fields} == {*copy.CHECKSUMS.columns}
