"""basic.get: one message at a time, what is left behind it, and what it does to a queue."""

from __future__ import annotations

from .client import Channel, Client
from .conftest import Names


def test_an_empty_queue_has_nothing_to_get(channel: Channel, queue: str) -> None:
    channel.send("basic.get", queue=queue)
    assert channel.expect("basic.get-empty").arguments == {"reserved_1": ""}


def test_get_ok_counts_what_is_left(channel: Channel, queue: str) -> None:
    for body in "abc":
        channel.publish(body, routing_key=queue)
    left = []
    for _ in range(3):
        message = channel.get(queue, no_ack=False)
        assert message is not None
        left.append((message.body, message["message_count"], message["delivery_tag"]))
    assert left == [(b"a", 2, 1), (b"b", 1, 2), (b"c", 0, 3)]


def test_unacked_messages_are_not_counted_as_left(channel: Channel, client: Client, queue: str) -> None:
    for body in "abc":
        channel.publish(body, routing_key=queue)
    channel.get(queue, no_ack=False)
    other = client.channel()
    message = other.get(queue)
    assert message is not None
    assert (message.body, message["message_count"]) == (b"b", 1)


def test_a_message_got_without_ack_is_gone(channel: Channel, client: Client, queue: str) -> None:
    channel.publish("m", routing_key=queue)
    channel.get(queue, no_ack=True)
    channel.close()
    assert client.channel().get(queue) is None


def test_a_message_got_and_not_acked_comes_back_with_the_end_of_the_channel(
    channel: Channel, client: Client, queue: str
) -> None:
    channel.publish("m", routing_key=queue)
    channel.get(queue, no_ack=False)
    channel.close()
    other = client.channel()
    other.counts_become(queue, 1, 0)
    message = other.get(queue)
    assert message is not None
    assert message["redelivered"] is True


def test_prefetch_does_not_limit_gets(channel: Channel, queue: str) -> None:
    channel.call("basic.qos", prefetch_count=1, global_=True)
    channel.call("basic.qos", prefetch_count=1)
    for body in "abc":
        channel.publish(body, routing_key=queue)
    assert [channel.get(queue, no_ack=False) is not None for _ in range(4)] == [True, True, True, False]


def test_a_consumer_with_room_leaves_nothing_to_get(channel: Channel, client: Client, queue: str) -> None:
    other = client.channel()
    other.consume(queue)
    channel.publish("m", routing_key=queue)
    other.expect("basic.deliver")
    assert channel.get(queue) is None


def test_the_exchange_and_key_of_a_message_are_those_it_was_published_with(
    channel: Channel, queue: str
) -> None:
    channel.bind(queue, "amq.topic", "a.#")
    channel.publish("m", exchange="amq.topic", routing_key="a.b.c")
    message = channel.get(queue)
    assert message is not None
    assert (message["exchange"], message["routing_key"]) == ("amq.topic", "a.b.c")


def test_getting_from_a_missing_queue_is_not_found(channel: Channel, names: Names) -> None:
    queue = names.queue()
    channel.send("basic.get", queue=queue)
    channel.refuses(404, f"no queue '{queue}' in vhost '/'", "basic.get")
