from contextlib import suppress
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from placement.replicas.tokens import MAX_LENGTH, Part, Token, UnreadableToken, parse

SERVICES = ("accounts", "orders")

unsigned = {bits: st.integers(min_value=0, max_value=(1 << bits) - 1) for bits in (32, 64)}
parts = st.builds(
    Part,
    system=unsigned[64],
    timeline=unsigned[32],
    lsn=unsigned[64],
    xid=st.none() | unsigned[64],
)
tokens = st.builds(Token, st.dictionaries(st.sampled_from(SERVICES), parts))


def part(lsn: int, *, xid: int | None = None, system: int = 7, timeline: int = 1) -> Part:
    return Part(system=system, timeline=timeline, lsn=lsn, xid=xid)


@given(tokens)
def test_a_token_round_trips_and_needs_no_quoting(token: Token) -> None:
    text = str(token)

    assert parse(text, services=SERVICES) == token
    assert len(text) <= MAX_LENGTH
    assert quote(text, safe="") == text


@given(st.text(max_size=600) | st.from_regex(r"1(~[a-z]+\.[0-9.a-f]+)*", fullmatch=True))
def test_any_text_is_a_token_or_unreadable(text: str) -> None:
    try:
        token = parse(text, services=SERVICES)
    except UnreadableToken:
        return
    assert set(token.parts) <= set(SERVICES)
    assert parse(str(token), services=SERVICES) == token


@given(tokens, st.data())
def test_a_damaged_token_raises_no_other_error(token: Token, data: st.DataObject) -> None:
    text = str(token)
    at = data.draw(st.integers(min_value=0, max_value=len(text)))
    damaged = text[:at] + data.draw(st.text(max_size=3)) + text[at + 1 :]
    with suppress(UnreadableToken):
        parse(damaged, services=SERVICES)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "2",
        "1~",
        "1~accounts",
        "1~accounts.7.1",
        "1~accounts.7.1.0.5.5",
        "1~accounts.7.1.-1",
        "1~accounts.7.1.0x1",
        "1~accounts.٧.1.0",
        "1~accounts.7.1.0\n",
        "1~accounts.7.1.0~accounts.7.1.1",
        f"1~accounts.{1 << 64}.1.0",
        f"1~accounts.7.{1 << 32}.0",
        f"1~accounts.7.1.0.{1 << 64}",
        "1" + "~other.7.1.0" * 100,
    ],
)
def test_a_malformed_token_is_unreadable(text: str) -> None:
    with pytest.raises(UnreadableToken):
        parse(text, services=SERVICES)


def test_parts_of_unknown_services_are_dropped() -> None:
    assert parse("1~unknown.7.1.0~orders.7.1.f", services=SERVICES) == Token({"orders": part(15)})


@given(tokens, tokens)
def test_two_tokens_of_one_history_are_joined_in_either_order(one: Token, other: Token) -> None:
    ours = Token({s: part(p.lsn, xid=p.xid) for s, p in one.parts.items()})
    theirs = Token({s: part(p.lsn, xid=p.xid) for s, p in other.parts.items()})

    joined = ours.joined(theirs)
    assert joined == theirs.joined(ours) == joined.joined(ours)
    for service, after in joined.parts.items():
        for before in (ours.parts.get(service), theirs.parts.get(service)):
            assert before is None or (
                after.lsn >= before.lsn and (after.xid or 0) >= (before.xid or 0)
            )


def test_joining_a_write_without_an_event_keeps_the_earlier_xid() -> None:
    before = Token({"accounts": part(10, xid=5), "orders": part(3)})

    after = before.joined(Token({"accounts": part(12)}))

    assert after == Token({"accounts": part(12, xid=5), "orders": part(3)})


@pytest.mark.parametrize(
    ("older", "newer", "kept"),
    [
        (part(90, xid=9), part(5, timeline=2), part(5, timeline=2)),
        (part(5, timeline=2), part(90, xid=9), part(5, timeline=2)),
        (part(90, xid=9), part(5, system=8), part(5, system=8)),
    ],
    ids=["after a failover", "an old token after a failover", "another cluster"],
)
def test_parts_of_different_histories_are_not_mixed(older: Part, newer: Part, kept: Part) -> None:
    assert Token({"orders": older}).joined(Token({"orders": newer})).parts["orders"] == kept


def test_a_part_can_be_dropped() -> None:
    token = Token({"accounts": part(1), "orders": part(2)})

    assert str(token.without(["accounts", "unknown"])) == "1~orders.7.1.2"
    assert str(token.without(SERVICES)) == "1"
