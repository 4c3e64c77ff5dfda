"""What a memory of rewritten headers finds, and what it must not take for it."""

from __future__ import annotations

from amqp_broker.content.header import (
    APP_ID,
    HEADERS,
    LONGEST_REWRITTEN,
    MOST_REWRITTEN,
    ContentHeader,
    Rewritten,
    build_header,
    parse_header,
)
from amqp_broker.content.table import table_of


def header(app_id: bytes = b"app") -> ContentHeader:
    return build_header(0, {APP_ID: app_id})


def test_what_was_kept_is_found_by_its_header_and_number() -> None:
    rewritten = Rewritten()
    source, first, second = header(), header(b"1"), header(b"2")
    assert rewritten.find(source, 1) is None
    rewritten.keep(source, 1, first)
    rewritten.keep(source, 2, second)
    assert rewritten.find(source, 1) is first
    assert rewritten.find(source, 2) is second
    assert rewritten.find(source, 3) is None


def test_a_header_of_the_same_octets_is_another_one() -> None:
    rewritten = Rewritten()
    source = header()
    rewritten.keep(source, 1, header(b"1"))
    assert rewritten.find(parse_header(source.payload), 1) is None


def test_a_header_that_is_known_is_not_replaced_at_its_address_in_memory() -> None:
    """Were a header only known by its address, another one could come to be there."""
    rewritten = Rewritten()
    for number in range(MOST_REWRITTEN):
        rewritten.keep(header(b"%d" % number), 0, header())
    assert all(rewritten.find(header(b"%d" % number), 0) is None for number in range(1000))


def test_the_memory_is_bounded() -> None:
    rewritten = Rewritten()
    sources = [header(b"%d" % number) for number in range(5 * MOST_REWRITTEN)]
    for source in sources:
        rewritten.keep(source, 0, header())
        assert rewritten.find(source, 0) is not None
        assert len(rewritten) <= MOST_REWRITTEN


def test_a_long_header_is_not_kept() -> None:
    rewritten = Rewritten()
    source = header()
    rewritten.keep(source, 0, build_header(0, {HEADERS: table_of({"long": "x" * LONGEST_REWRITTEN})}))
    assert rewritten.find(source, 0) is None


def test_what_was_read_to_rewrite_a_header_can_be_read_again() -> None:
    source = build_header(0, {HEADERS: table_of({"name": "value"})})
    before = source.headers()
    Rewritten().keep(source, 0, header())
    assert source.headers() is not before, "it takes no memory while the header is waiting"
    assert source.headers().keys() == {"name"}
