"""Golden bytes of the hot frames, and scans of streams that are cut at every point."""

from __future__ import annotations

import struct
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pamqp import commands
from pamqp import frame as frames
from pamqp.body import ContentBody

from amqp_broker.perf import methods
from amqp_broker.perf.frames import (
    FRAME_BODY,
    FRAME_HEADER,
    FRAME_HEARTBEAT,
    FRAME_METHOD,
    AckBurst,
    BrokenStream,
    ChannelInbox,
    ConfirmWindow,
    FrameScanner,
    PublishBurst,
    content_frames,
    frame,
)
from amqp_broker.perf.latency import Histogram

HEARTBEAT = b"\x08\x00\x00\x00\x00\x00\x00\xce"
FRAME_MAX = 4096
NOW = 10**15


def burst_of(size: int, frame_max: int = FRAME_MAX, routing_key: str = "k") -> PublishBurst:
    publish = methods.pack_publish("e", routing_key, False)
    return PublishBurst(1, publish, methods.pack_content_header(size, persistent=False), size, frame_max)


def parsed(data: bytes) -> Iterator[object]:
    """What pamqp makes of a stream."""
    while data:
        used, _, value = frames.unmarshal(data)
        yield value
        data = data[used:]


def stamped(sent: int, size: int) -> bytes:
    return (b"perf" + struct.pack(">Q", sent)).ljust(size, b"x")


def delivery(
    tag: int, body: bytes, *, channel: int = 1, redelivered: bool = False, consumer: str = "c"
) -> bytes:
    deliver = commands.Basic.Deliver(consumer, tag, redelivered, "e", "k")
    header = methods.pack_content_header(len(body), persistent=False)
    return frames.marshal(deliver, channel) + content_frames(channel, header, body, FRAME_MAX)


class Receiver:
    """A scanner with open channels 0 and 1, and with everything it counted."""

    def __init__(self, confirms: ConfirmWindow | None = None) -> None:
        self.latency = Histogram()
        self.scanner = FrameScanner(self.latency, FRAME_MAX)
        self.scanner.open(0)
        self.inbox = self.scanner.open(1, confirms)

    def feed(self, *pieces: bytes, now: int = NOW) -> ChannelInbox:
        for piece in pieces:
            self.scanner.feed(piece, now)
        return self.inbox

    def state(self) -> tuple[object, ...]:
        inbox = self.inbox
        latency = self.latency.state()
        return inbox.deliveries, inbox.delivery_tag, inbox.returned, list(self.scanner.methods), latency


# what goes out


def test_a_stamped_publish_is_these_bytes() -> None:
    expected = (
        b"\x01\x00\x01\x00\x00\x00\x0b\x00\x3c\x00\x28\x00\x00\x01e\x01k\x00\xce"
        b"\x02\x00\x01\x00\x00\x00\x0f\x00\x3c\x00\x00\x00\x00\x00\x00\x00\x00\x00\x0e\x10\x00\x01\xce"
        b"\x03\x00\x01\x00\x00\x00\x0eperf\x00\x00\x00\x00\x00\x00\x01\x02xx\xce"
    )
    assert burst_of(14).encode(1, 0x102) == expected
    assert burst_of(14).encode(3, 0x102) == expected * 3


@pytest.mark.parametrize("size", [0, 1, 11, 12, 13, 4088, 4089, 10_000])
def test_pamqp_reads_bursts_of_any_size(size: int) -> None:
    burst = burst_of(size)
    data = burst.encode(2, NOW)
    assert len(data) == 2 * burst.message_size
    body = stamped(NOW, size) if size >= 12 else b"x" * size
    values = list(parsed(data))
    found = [value.value for value in values if isinstance(value, ContentBody)]
    assert b"".join(found) == body * 2
    assert all(len(piece) <= FRAME_MAX - 8 for piece in found)
    assert [value.name for value in values if isinstance(value, commands.Basic.Publish)] == [
        "Basic.Publish"
    ] * 2


def test_acks_of_each_tag_and_of_every_third() -> None:
    each = [
        value
        for value in parsed(AckBurst(1, multiple=False).encode(5, 8, 1))
        if isinstance(value, commands.Basic.Ack)
    ]
    assert [(ack.delivery_tag, ack.multiple) for ack in each] == [
        (5, False),
        (6, False),
        (7, False),
        (8, False),
    ]
    third = [
        value
        for value in parsed(AckBurst(1, multiple=True).encode(3, 10, 3))
        if isinstance(value, commands.Basic.Ack)
    ]
    assert [(ack.delivery_tag, ack.multiple) for ack in third] == [(3, True), (6, True), (9, True)]


# what comes in


def test_deliveries_are_counted_and_timed() -> None:
    receiver = Receiver()
    data = b"".join(delivery(tag, stamped(NOW - 1000 * (1 + tag // 3), 100)) for tag in range(1, 6))
    inbox = receiver.feed(data)
    assert (inbox.deliveries, inbox.delivery_tag) == (5, 5)
    assert (receiver.latency.count, receiver.latency.smallest, receiver.latency.largest) == (5, 1000, 2000)
    assert receiver.scanner.active == [inbox]


def mixed_stream() -> bytes:
    """Deliveries alike and different, returns, other methods and heartbeats, one after another."""
    header = methods.pack_content_header(5, persistent=False)
    back = frames.marshal(commands.Basic.Return(312, "NO_ROUTE", "e", "k"), 1) + content_frames(
        1, header, b"perf!", 4096
    )
    return b"".join(
        (
            frames.marshal(commands.Basic.ConsumeOk("c"), 1),
            delivery(1, stamped(NOW - 5, 20)),
            delivery(2, stamped(NOW - 5, 20)),
            HEARTBEAT,
            delivery(3, stamped(NOW - 6, 20)),
            back,
            delivery(4, stamped(NOW - 7, 20), redelivered=True),
            delivery(5, b""),
            delivery(6, b""),
            delivery(7, b"not ours at all"),
            delivery(8, b"not ours at all"),
            delivery(9, stamped(NOW - 8, 20)),
            frames.marshal(commands.Basic.Cancel("c"), 1),
        )
    )


def whole_state() -> tuple[object, ...]:
    receiver = Receiver()
    receiver.feed(mixed_stream())
    return receiver.state()


def test_a_mixed_stream_is_counted_right() -> None:
    deliveries, tag, returned, other, latency = whole_state()
    assert (deliveries, tag, returned) == (9, 9, 1)
    assert [payload[:4] for _, payload in other] == [b"\x00\x3c\x00\x15", b"\x00\x3c\x00\x1e"]  # type: ignore[attr-defined]
    assert latency == (5, 31, 5, 8, {5: 2, 6: 1, 7: 1, 8: 1})


def test_the_count_is_the_same_wherever_the_stream_is_cut_in_two() -> None:
    stream, expected = mixed_stream(), whole_state()
    for cut in range(1, len(stream)):
        receiver = Receiver()
        receiver.feed(stream[:cut], stream[cut:])
        assert receiver.state() == expected, cut


def test_the_count_is_the_same_byte_by_byte() -> None:
    receiver = Receiver()
    receiver.feed(*(bytes((octet,)) for octet in mixed_stream()))
    assert receiver.state() == whole_state()


@given(st.lists(st.integers(1, 60), max_size=40))
def test_the_count_is_the_same_in_pieces_of_any_size(sizes: list[int]) -> None:
    stream, receiver = mixed_stream(), Receiver()
    for size in sizes:
        if stream:
            receiver.feed(stream[:size])
            stream = stream[size:]
    receiver.feed(stream)
    assert receiver.state() == whole_state()


def test_a_body_of_several_frames_is_one_message_timed_at_its_end() -> None:
    stream = delivery(1, stamped(NOW, 9000)) + delivery(2, stamped(NOW, 9000))
    for cut in range(1, len(stream), 97):
        receiver = Receiver()
        receiver.feed(stream[:cut], now=NOW + 100)
        done = receiver.inbox.deliveries
        receiver.feed(stream[cut:], now=NOW + 200)
        assert receiver.inbox.deliveries == 2
        assert receiver.latency.count == 2
        assert receiver.latency.total == done * 100 + (2 - done) * 200


def test_messages_of_others_do_not_hide_ours_of_the_same_size() -> None:
    receiver = Receiver()
    foreign = b"somebody else's body"
    receiver.feed(delivery(1, foreign) + delivery(2, stamped(NOW - 7, 20)) + delivery(3, foreign))
    assert receiver.inbox.deliveries == 3
    assert receiver.latency.state() == (1, 7, 7, 7, {7: 1})


def test_channels_may_interleave_their_frames() -> None:
    receiver = Receiver()
    other = receiver.scanner.open(2)
    one, two = delivery(1, stamped(NOW, 20)), delivery(1, stamped(NOW, 30), channel=2)
    first = len(one) - 28
    receiver.feed(one + two + one[:first] + two + one[first:])
    assert (receiver.inbox.deliveries, other.deliveries, receiver.latency.count) == (2, 2, 4)
    assert {inbox.number for inbox in receiver.scanner.active} == {1, 2}


def test_a_scan_without_news_has_no_active_channels() -> None:
    receiver = Receiver()
    receiver.feed(delivery(1, b"x"))
    receiver.feed(delivery(2, b"x")[:10])
    assert [inbox.number for inbox in receiver.scanner.active if inbox.deliveries > 1] == []


@pytest.mark.parametrize(
    ("stream", "said"),
    [
        (delivery(1, b"abc")[:-1] + b"\x00", "frame end octet is 0x00"),
        (HEARTBEAT[:-1] + b"\x01", "frame end octet is 0x01"),
        (frame(9, 1, b""), "unknown type 9"),
        (frame(FRAME_HEARTBEAT, 3, b""), "channel 3, which is not open"),
        (frame(FRAME_HEADER, 1, methods.pack_content_header(1, persistent=False)), "without its method"),
        (frame(FRAME_BODY, 1, b"x"), "without its header"),
        (delivery(1, b"abc")[:-11] + frame(FRAME_BODY, 1, b"abcd"), "longer than its header says"),
        (frame(FRAME_METHOD, 1, b"\x00\x3c\x00\x1e" + bytes(FRAME_MAX)), "4096 were agreed"),
        (delivery(1, b"abc")[:-11] + delivery(2, b""), "amid the content"),
        (frame(FRAME_METHOD, 1, b"\x00\x3c\x00\x50" + bytes(7) + b"\x05\x00"), "tag 5, which is not waiting"),
        (
            frame(FRAME_METHOD, 1, b"\x00\x3c\x00\x50" + bytes(7) + b"\x05\x01"),
            "tag 5, which was not published",
        ),
    ],
)
def test_a_broken_stream_is_noticed_wherever_it_is_cut(stream: bytes, said: str) -> None:
    for cut in range(len(stream)):
        receiver = Receiver(ConfirmWindow(10, Histogram()))
        with pytest.raises(BrokenStream, match=said):
            receiver.feed(stream[:cut], stream[cut:])


def test_a_broken_end_behind_an_expected_shape_is_noticed() -> None:
    receiver = Receiver()
    receiver.feed(delivery(1, stamped(NOW, 20)))
    with pytest.raises(BrokenStream, match="frame end octet is 0x00"):
        receiver.feed(delivery(2, stamped(NOW, 20))[:-1] + b"\x00")


# confirms


def confirm(tag: int, *, multiple: bool = False, positive: bool = True) -> bytes:
    method = commands.Basic.Ack(tag, multiple) if positive else commands.Basic.Nack(tag, multiple, False)
    return frames.marshal(method, 1)


def test_confirms_reach_the_window_of_their_channel() -> None:
    latency = Histogram()
    window = ConfirmWindow(100, latency)
    window.published(3, NOW - 30)
    window.published(4, NOW - 10)
    receiver = Receiver(window)
    receiver.feed(confirm(2) + confirm(5, multiple=True) + confirm(6, positive=False))
    assert (window.confirmed, window.nacked, window.unconfirmed()) == (5, 1, 1)
    assert latency.state() == (6, 3 * 30 + 3 * 10, 10, 30, {30: 3, 10: 3})
    receiver.feed(confirm(0, multiple=True))
    assert (window.confirmed, window.unconfirmed(), window.oldest()) == (6, 0, 0)


def test_confirms_out_of_order_are_counted_once() -> None:
    window = ConfirmWindow(10, Histogram())
    window.published(5, 1)
    for tag in (5, 3, 1):
        window.settle(tag, False, True, 2)
    window.settle(4, True, True, 2)
    window.settle(4, True, True, 3)
    assert (window.confirmed, window.unconfirmed()) == (5, 0)


def test_a_second_confirm_of_one_message_is_an_error() -> None:
    window = ConfirmWindow(10, Histogram())
    window.published(1, 1)
    window.settle(1, False, True, 2)
    with pytest.raises(BrokenStream, match="tag 1, which is not waiting"):
        window.settle(1, False, True, 3)


def test_a_full_window_opens_again_when_half_of_it_is_confirmed() -> None:
    window = ConfirmWindow(4, Histogram())
    assert window.room() == 4
    window.published(3, 1)
    assert window.room() == 1
    window.published(1, 1)
    assert window.room() == 0
    window.settle(1, False, True, 2)
    assert window.room() == 0
    window.settle(2, False, True, 2)
    assert window.room() == 2
    window.published(1, 3)
    assert window.room() == 1


def test_a_window_of_one_waits_for_each_confirm() -> None:
    window = ConfirmWindow(1, Histogram())
    for tag in range(1, 4):
        assert window.room() == 1
        window.published(1, 1)
        assert window.room() == 0
        window.settle(tag, False, True, 2)


def test_the_oldest_wait_is_that_of_the_first_unconfirmed_message() -> None:
    window = ConfirmWindow(10, Histogram())
    window.published(1, 100)
    window.published(1, 200)
    assert window.oldest() == 100
    window.settle(1, False, True, 300)
    assert window.oldest() == 200
