"""Headers by their octets: those that were parsed before are found again, a bounded number of them."""

from __future__ import annotations

import pytest

from amqp_broker.content.header import (
    EXPIRATION,
    LONGEST_KNOWN,
    MESSAGE_ID,
    MOST_KNOWN,
    HeaderError,
    KnownHeaders,
    build_header,
)


def payload(number: int) -> bytes:
    return build_header(5, {EXPIRATION: b"%d" % number}).payload


def test_equal_octets_share_a_header() -> None:
    known = KnownHeaders()
    first = known.parsed(payload(1))
    assert (first.expiration, first.body_size) == (b"1", 5)
    assert known.parsed(payload(1)) is first
    assert known.parsed(payload(2)).expiration == b"2"


def test_so_many_are_kept_and_not_one_more() -> None:
    known = KnownHeaders()
    for number in range(MOST_KNOWN):
        known.parsed(payload(number))
    assert len(known) == MOST_KNOWN
    assert known.parsed(payload(MOST_KNOWN)).expiration == b"%d" % MOST_KNOWN
    assert len(known) == 1


def test_a_long_one_is_not_kept() -> None:
    known = KnownHeaders()
    long = build_header(5, {MESSAGE_ID: b"x" * 255, EXPIRATION: b"1" * 255})
    assert len(long.payload) > LONGEST_KNOWN
    assert known.parsed(long.payload).payload == long.payload
    assert len(known) == 0


def test_what_is_no_header_is_refused() -> None:
    known = KnownHeaders()
    with pytest.raises(HeaderError, match="cut short"):
        known.parsed(b"\0\x3c")
    assert len(known) == 0
