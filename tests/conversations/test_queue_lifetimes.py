"""Exclusive and auto-delete queues: whom they belong to, and when they go."""

from __future__ import annotations

from typing import Any

import pytest

from .client import Channel, Client, eventually
from .conftest import Connect, Names


def locked(queue: str) -> str:
    return (
        f"cannot obtain exclusive access to locked queue '{queue}' in vhost '/'. It could be originally "
        f"declared on "
        "another connection or the exclusive property value does not match that of the original declaration."
    )


def is_gone(channel: Channel, queue: str) -> bool:
    channel.send("queue.declare", queue=queue, passive=True)
    if channel.receive().name == "queue.declare-ok":
        return False
    channel.send("channel.close-ok")
    channel.open()
    return True


# exclusive


def test_an_exclusive_queue_goes_with_its_connection(
    channel: Channel, connect: Connect, names: Names
) -> None:
    owner = connect()
    queue = owner.channel().declare(names.queue(), exclusive=True)
    owner.close()
    eventually(lambda: is_gone(channel, queue), True)


def test_an_exclusive_queue_goes_with_a_connection_that_just_drops(
    channel: Channel, connect: Connect, names: Names
) -> None:
    owner = connect()
    queue = owner.channel().declare(names.queue(), exclusive=True)
    owner.drop()
    eventually(lambda: is_gone(channel, queue), True)


def test_an_exclusive_queue_outlives_the_channel_that_declared_it(client: Client, names: Names) -> None:
    channel = client.channel()
    queue = channel.declare(names.queue(), exclusive=True)
    channel.close()
    assert client.channel().counts(queue) == (0, 0)


@pytest.mark.parametrize(
    ("method", "arguments"),
    [
        ("queue.declare", {}),
        ("queue.declare", {"exclusive": True}),
        ("queue.declare", {"passive": True}),
        ("queue.bind", {"exchange": "amq.direct"}),
        ("queue.purge", {}),
        ("queue.delete", {}),
        ("basic.get", {}),
        ("basic.consume", {}),
    ],
)
def test_another_connection_is_locked_out_of_an_exclusive_queue(
    channel: Channel, connect: Connect, names: Names, method: str, arguments: dict[str, Any]
) -> None:
    queue = connect().channel().declare(names.queue(), exclusive=True)
    channel.send(method, queue=queue, **arguments)
    channel.refuses(405, locked(queue), method)


@pytest.mark.parametrize("bound", [True, False])
def test_another_connection_may_unbind_an_exclusive_queue_only_from_what_it_is_not_bound_to(
    channel: Channel, connect: Connect, names: Names, bound: bool
) -> None:
    owner = connect().channel()
    queue = owner.declare(names.queue(), exclusive=True)
    if bound:
        owner.bind(queue, "amq.direct", "k")
    channel.send("queue.unbind", queue=queue, exchange="amq.direct", routing_key="k")
    if bound:
        channel.refuses(405, locked(queue), "queue.unbind")
    else:
        channel.expect("queue.unbind-ok")


def test_anyone_may_publish_to_an_exclusive_queue(channel: Channel, connect: Connect, names: Names) -> None:
    owner = connect().channel()
    queue = owner.declare(names.queue(), exclusive=True)
    channel.publish("m", routing_key=queue)
    owner.counts_become(queue, 1, 0)


def test_the_owner_may_delete_an_exclusive_queue_at_once(client: Client, names: Names) -> None:
    channel = client.channel()
    queue = channel.declare(names.queue(), exclusive=True)
    client.channel().call("queue.delete", queue=queue)
    assert is_gone(channel, queue)


# auto-delete


def test_an_auto_delete_queue_waits_for_its_first_consumer(channel: Channel, names: Names) -> None:
    queue = channel.declare(names.queue(), auto_delete=True)
    channel.publish("m", routing_key=queue)
    assert channel.get(queue) is not None
    assert channel.counts(queue) == (0, 0)


def test_an_auto_delete_queue_goes_with_its_last_consumer(channel: Channel, names: Names) -> None:
    queue = channel.declare(names.queue(), auto_delete=True)
    channel.consume(queue, "one")
    channel.consume(queue, "two")
    channel.call("basic.cancel", consumer_tag="one")
    assert channel.counts(queue) == (0, 1)
    channel.call("basic.cancel", consumer_tag="two")
    eventually(lambda: is_gone(channel, queue), True)


def test_an_auto_delete_queue_goes_with_the_channel_of_its_last_consumer(
    channel: Channel, client: Client, names: Names
) -> None:
    queue = channel.declare(names.queue(), auto_delete=True)
    other = client.channel()
    other.consume(queue)
    other.close()
    eventually(lambda: is_gone(channel, queue), True)


def test_an_auto_delete_queue_goes_with_the_connection_of_its_last_consumer(
    channel: Channel, connect: Connect, names: Names
) -> None:
    queue = channel.declare(names.queue(), auto_delete=True)
    other = connect()
    other.channel().consume(queue)
    other.drop()
    eventually(lambda: is_gone(channel, queue), True)


def test_a_durable_declare_is_answered_before_the_close_that_follows_it(
    connect: Connect, names: Names
) -> None:
    client = connect()
    channel = client.channel()
    queue = names.queue()
    channel.send("queue.declare", queue=queue, durable=True)
    client.send(0, "connection.close", reply_code=200)
    assert client.receive().name == "queue.declare-ok"
    client.expect("connection.close-ok")
