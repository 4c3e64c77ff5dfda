"""Acknowledgements: ack, nack, reject, recover, unknown tags, and the place and mark of what is requeued."""

from __future__ import annotations

from typing import Any

import pytest

from .client import Channel, Client
from .conftest import Connect, Names

SETTLE: list[tuple[str, dict[str, Any]]] = [
    ("basic.ack", {}),
    ("basic.ack", {"multiple": True}),
    ("basic.nack", {"requeue": True}),
    ("basic.nack", {"multiple": True, "requeue": True}),
    ("basic.nack", {}),
    ("basic.reject", {"requeue": True}),
    ("basic.reject", {}),
]


def fill(channel: Channel, queue: str, bodies: str) -> None:
    for body in bodies:
        channel.publish(body, routing_key=queue)


def take(channel: Channel, queue: str, count: int) -> list[int]:
    """The delivery tags of so many messages got and not yet acknowledged."""
    tags = []
    for _ in range(count):
        message = channel.get(queue, no_ack=False)
        assert message is not None
        tags.append(message["delivery_tag"])
    return tags


def rest(channel: Channel, queue: str) -> list[tuple[str, bool]]:
    """Body and redelivered mark of what is in the queue, in its order."""
    found = []
    while (message := channel.get(queue)) is not None:
        found.append((message.body.decode(), message["redelivered"]))
    return found


def remains(client: Client, channel: Channel, queue: str) -> list[tuple[str, bool]]:
    """What the queue holds when the channel has given back all it had not settled."""
    channel.close()
    channel.open()
    return rest(channel, queue)


# unknown delivery tags


@pytest.mark.parametrize(("method", "arguments"), SETTLE)
@pytest.mark.parametrize("tag", [1, 2, 2**63, 2**64 - 1])
def test_a_tag_never_given_out_is_refused(
    channel: Channel, method: str, arguments: dict[str, Any], tag: int
) -> None:
    channel.send(method, delivery_tag=tag, **arguments)
    channel.refuses(406, f"unknown delivery tag {tag}", method)


@pytest.mark.parametrize(
    ("method", "arguments"),
    [("basic.ack", {}), ("basic.nack", {"requeue": True}), ("basic.reject", {"requeue": True})],
)
def test_tag_zero_is_unknown_unless_multiple(
    channel: Channel, queue: str, method: str, arguments: dict[str, Any]
) -> None:
    fill(channel, queue, "a")
    take(channel, queue, 1)
    channel.send(method, delivery_tag=0, **arguments)
    channel.refuses(406, "unknown delivery tag 0", method)


@pytest.mark.parametrize(("method", "arguments"), SETTLE)
def test_a_tag_settled_before_is_refused(
    channel: Channel, queue: str, method: str, arguments: dict[str, Any]
) -> None:
    fill(channel, queue, "abc")
    take(channel, queue, 3)
    channel.send("basic.ack", delivery_tag=2)
    channel.send(method, delivery_tag=2, **arguments)
    channel.refuses(406, "unknown delivery tag 2", method)
    channel.counts_become(queue, 2, 0)
    assert rest(channel, queue) == [("a", True), ("c", True)]


@pytest.mark.parametrize("method", ["basic.ack", "basic.nack"])
def test_multiple_up_to_a_tag_not_yet_given_out_is_refused_and_settles_nothing(
    channel: Channel, queue: str, method: str
) -> None:
    fill(channel, queue, "ab")
    take(channel, queue, 2)
    channel.send(method, delivery_tag=3, multiple=True)
    channel.refuses(406, "unknown delivery tag 3", method)
    channel.counts_become(queue, 2, 0)


def test_a_tag_of_an_automatic_ack_is_unknown(channel: Channel, queue: str) -> None:
    fill(channel, queue, "a")
    channel.get(queue, no_ack=True)
    channel.send("basic.ack", delivery_tag=1)
    channel.refuses(406, "unknown delivery tag 1", "basic.ack")


def test_a_tag_of_another_channel_is_unknown(client: Client, queue: str) -> None:
    one, two = client.channel(), client.channel()
    fill(one, queue, "a")
    take(one, queue, 1)
    two.send("basic.ack", delivery_tag=1)
    two.refuses(406, "unknown delivery tag 1", "basic.ack")
    assert remains(client, one, queue) == [("a", True)]


def test_a_tag_of_the_channels_earlier_life_is_unknown(channel: Channel, queue: str) -> None:
    fill(channel, queue, "a")
    take(channel, queue, 1)
    channel.close()
    channel.open()
    channel.send("basic.ack", delivery_tag=1)
    channel.refuses(406, "unknown delivery tag 1", "basic.ack")


def test_after_an_unknown_tag_nothing_more_is_done_on_the_channel(channel: Channel, queue: str) -> None:
    fill(channel, queue, "ab")
    take(channel, queue, 1)
    channel.send("basic.ack", delivery_tag=7)
    channel.send("basic.ack", delivery_tag=1)
    channel.send("queue.purge", queue=queue)
    channel.refuses(406, "unknown delivery tag 7", "basic.ack")
    channel.counts_become(queue, 2, 0)


@pytest.mark.parametrize("method", ["basic.ack", "basic.nack"])
def test_all_of_nothing_is_fine(channel: Channel, method: str) -> None:
    channel.send(method, delivery_tag=0, multiple=True)
    channel.hears_nothing()


# ack


def test_an_acked_message_is_gone(client: Client, channel: Channel, queue: str) -> None:
    fill(channel, queue, "abc")
    take(channel, queue, 3)
    channel.send("basic.ack", delivery_tag=2)
    assert remains(client, channel, queue) == [("a", True), ("c", True)]


def test_acks_may_come_in_any_order(client: Client, channel: Channel, queue: str) -> None:
    fill(channel, queue, "abcd")
    for tag in reversed(take(channel, queue, 4)):
        channel.send("basic.ack", delivery_tag=tag)
    assert remains(client, channel, queue) == []


def test_ack_multiple_settles_up_to_its_tag(client: Client, channel: Channel, queue: str) -> None:
    fill(channel, queue, "abcd")
    take(channel, queue, 4)
    channel.send("basic.ack", delivery_tag=3, multiple=True)
    assert remains(client, channel, queue) == [("d", True)]


def test_ack_multiple_passes_over_what_is_settled_already(
    client: Client, channel: Channel, queue: str
) -> None:
    fill(channel, queue, "abcd")
    take(channel, queue, 4)
    channel.send("basic.ack", delivery_tag=1)
    channel.send("basic.reject", delivery_tag=2, requeue=True)
    channel.send("basic.ack", delivery_tag=3, multiple=True)
    assert remains(client, channel, queue) == [("b", True), ("d", True)]


def test_ack_of_tag_zero_multiple_settles_all(client: Client, channel: Channel, queue: str) -> None:
    fill(channel, queue, "abcd")
    take(channel, queue, 3)
    channel.send("basic.ack", delivery_tag=0, multiple=True)
    assert remains(client, channel, queue) == [("d", False)]


def test_ack_multiple_settles_messages_of_several_queues(
    client: Client, channel: Channel, names: Names
) -> None:
    one, two = channel.declare(names.queue()), channel.declare(names.queue())
    for queue in (one, two):
        fill(channel, queue, "ab")
    for queue in (one, two, one, two):
        take(channel, queue, 1)
    channel.send("basic.ack", delivery_tag=3, multiple=True)
    assert remains(client, channel, one) == []
    assert rest(channel, two) == [("b", True)]


def test_ack_multiple_settles_gets_and_deliveries_alike(
    client: Client, channel: Channel, names: Names
) -> None:
    got, consumed = channel.declare(names.queue()), channel.declare(names.queue())
    fill(channel, got, "ab")
    take(channel, got, 1)
    channel.consume(consumed)
    fill(channel, consumed, "c")
    channel.expect("basic.deliver", delivery_tag=2)
    take(channel, got, 1)
    channel.send("basic.ack", delivery_tag=3, multiple=True)
    assert remains(client, channel, got) == []
    channel.counts_become(consumed, 0, 0)


# reject and nack


@pytest.mark.parametrize("method", ["basic.reject", "basic.nack"])
def test_a_message_refused_for_good_is_gone(
    client: Client, channel: Channel, queue: str, method: str
) -> None:
    fill(channel, queue, "ab")
    take(channel, queue, 2)
    channel.send(method, delivery_tag=1, requeue=False)
    assert remains(client, channel, queue) == [("b", True)]


@pytest.mark.parametrize("method", ["basic.reject", "basic.nack"])
def test_a_message_refused_for_now_comes_back_to_its_place_and_marked(
    channel: Channel, queue: str, method: str
) -> None:
    fill(channel, queue, "abcd")
    take(channel, queue, 3)
    channel.send(method, delivery_tag=2, requeue=True)
    assert rest(channel, queue) == [("b", True), ("d", False)]


def test_requeued_messages_are_in_the_order_of_publishing_whatever_the_order_of_requeueing(
    channel: Channel, queue: str
) -> None:
    fill(channel, queue, "abcdef")
    take(channel, queue, 4)
    for tag in (3, 1, 4, 2):
        channel.send("basic.reject", delivery_tag=tag, requeue=True)
    assert [body for body, _ in rest(channel, queue)] == list("abcdef")


def test_nack_multiple_requeues_up_to_its_tag(channel: Channel, queue: str) -> None:
    fill(channel, queue, "abcd")
    take(channel, queue, 3)
    channel.send("basic.nack", delivery_tag=2, multiple=True, requeue=True)
    assert rest(channel, queue) == [("a", True), ("b", True), ("d", False)]


def test_nack_of_tag_zero_multiple_requeues_all(channel: Channel, queue: str) -> None:
    fill(channel, queue, "abc")
    take(channel, queue, 3)
    channel.send("basic.nack", delivery_tag=0, multiple=True, requeue=True)
    assert rest(channel, queue) == [("a", True), ("b", True), ("c", True)]


def test_nack_multiple_without_requeue_drops(client: Client, channel: Channel, queue: str) -> None:
    fill(channel, queue, "abc")
    take(channel, queue, 3)
    channel.send("basic.nack", delivery_tag=2, multiple=True)
    assert remains(client, channel, queue) == [("c", True)]


def test_a_requeued_message_gets_a_new_delivery_tag(channel: Channel, queue: str) -> None:
    channel.consume(queue)
    fill(channel, queue, "a")
    channel.expect("basic.deliver", delivery_tag=1, redelivered=False)
    channel.send("basic.reject", delivery_tag=1, requeue=True)
    channel.expect("basic.deliver", delivery_tag=2, redelivered=True)
    channel.send("basic.ack", delivery_tag=2)
    channel.hears_nothing(queue)


def test_a_requeued_message_goes_to_the_next_consumer_in_turn(client: Client, queue: str) -> None:
    one, two = client.channel(), client.channel()
    one.consume(queue, "one")
    two.consume(queue, "two")
    fill(one, queue, "a")
    one.expect("basic.deliver", redelivered=False)
    one.send("basic.reject", delivery_tag=1, requeue=True)
    two.expect("basic.deliver", delivery_tag=1, redelivered=True)


def test_only_what_was_handed_out_is_marked_redelivered(channel: Channel, queue: str) -> None:
    fill(channel, queue, "ab")
    take(channel, queue, 1)
    channel.send("basic.reject", delivery_tag=1, requeue=True)
    assert rest(channel, queue) == [("a", True), ("b", False)]


def test_a_message_requeued_to_a_queue_with_a_closed_channel_is_marked(
    channel: Channel, connect: Connect, queue: str
) -> None:
    other = connect().channel()
    fill(channel, queue, "ab")
    channel.counts_become(queue, 2, 0)
    take(other, queue, 1)
    other.close()
    channel.counts_become(queue, 2, 0)
    assert rest(channel, queue) == [("a", True), ("b", False)]


# recover


@pytest.mark.parametrize("method", ["basic.recover", "basic.recover-async"])
def test_recover_requeues_everything_unacked(channel: Channel, queue: str, method: str) -> None:
    fill(channel, queue, "abcd")
    take(channel, queue, 3)
    channel.send("basic.ack", delivery_tag=2)
    channel.send(method, requeue=True)
    if method == "basic.recover":
        channel.expect("basic.recover-ok")
    assert rest(channel, queue) == [("a", True), ("c", True), ("d", False)]


def test_recover_with_nothing_unacked_is_fine(channel: Channel) -> None:
    assert channel.call("basic.recover", requeue=True) == {}
    channel.send("basic.recover-async", requeue=True)
    channel.hears_nothing()


def test_recover_delivers_to_the_same_consumer_again(channel: Channel, queue: str) -> None:
    channel.consume(queue)
    fill(channel, queue, "ab")
    channel.deliveries(2)
    channel.call("basic.recover", requeue=True)
    deliveries = channel.deliveries(2)
    assert [(d.body, d["delivery_tag"], d["redelivered"]) for d in deliveries] == [
        (b"a", 3, True),
        (b"b", 4, True),
    ]


def test_recover_gives_back_what_a_cancelled_consumer_had(channel: Channel, queue: str) -> None:
    channel.consume(queue, "t")
    fill(channel, queue, "ab")
    channel.deliveries(2)
    channel.call("basic.cancel", consumer_tag="t")
    channel.call("basic.recover", requeue=True)
    assert rest(channel, queue) == [("a", True), ("b", True)]


def test_recover_leaves_other_channels_alone(client: Client, queue: str) -> None:
    one, two = client.channel(), client.channel()
    fill(one, queue, "ab")
    take(one, queue, 1)
    take(two, queue, 1)
    one.call("basic.recover", requeue=True)
    assert rest(one, queue) == [("a", True)]


def test_tags_from_before_a_recover_are_unknown(channel: Channel, queue: str) -> None:
    fill(channel, queue, "a")
    take(channel, queue, 1)
    channel.call("basic.recover", requeue=True)
    channel.send("basic.ack", delivery_tag=1)
    channel.refuses(406, "unknown delivery tag 1", "basic.ack")


@pytest.mark.parametrize("method", ["basic.recover", "basic.recover-async"])
def test_recover_without_requeue_closes_the_connection(channel: Channel, method: str) -> None:
    channel.send(method, requeue=False)
    channel.client.refuses(540, "requeue=false", method)
