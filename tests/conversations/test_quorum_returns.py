"""What comes back to a quorum queue by less common ways (from a transaction, more than once, to a consumer that
does not acknowledge), and who counts as its consumer meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from .client import Channel, Client, eventually
from .conftest import Names

Declare = Callable[..., str]
Differs = Callable[..., Any]


@pytest.fixture
def quorum(channel: Channel, names: Names) -> Declare:
    """Declare a quorum queue with so many messages in it, named by letters."""

    def declare(bodies: str, **arguments: Any) -> str:
        given = {"x-queue-type": "quorum"} | {
            key.replace("_", "-"): value for key, value in arguments.items()
        }
        queue = channel.declare(names.queue("quorum"), durable=True, arguments=given)
        for body in bodies:
            channel.publish(body, routing_key=queue)
        has_ready(channel, queue, len(bodies))
        return queue

    return declare


def has_ready(channel: Channel, queue: str, count: int) -> None:
    eventually(lambda: channel.counts(queue)[0], count)


LIMITS = pytest.mark.parametrize("limit", [{}, {"x_delivery_limit": 10}], ids=str)


@LIMITS
def test_a_consumer_without_acks_is_told_the_count(
    channel: Channel, quorum: Declare, limit: dict[str, int]
) -> None:
    queue = quorum("a", **limit)
    message = channel.arrival(queue, no_ack=False)
    channel.send("basic.nack", delivery_tag=message["delivery_tag"], requeue=True)
    channel.consume(queue, no_ack=True)
    message = channel.expect("basic.deliver", redelivered=True)
    assert message.properties["headers"]["x-delivery-count"].value == 1


@LIMITS
def test_what_a_transaction_refuses_comes_back_at_the_commit(
    channel: Channel, client: Client, quorum: Declare, limit: dict[str, int]
) -> None:
    queue = quorum("ab", **limit)
    tx = client.channel()
    tx.call("tx.select")
    tx.send("basic.nack", delivery_tag=tx.arrival(queue, no_ack=False)["delivery_tag"], requeue=True)
    tx.call("tx.commit")
    assert channel.arrivals(queue, 2) == (["a", "b"] if limit else ["b", "a"])


@LIMITS
def test_what_is_given_back_by_a_close_is_in_the_order_of_its_delivery(
    channel: Channel, client: Client, quorum: Declare, limit: dict[str, int]
) -> None:
    queue = quorum("abcd", **limit)
    other = client.channel()
    assert other.arrivals_kept(queue, 3) == ["a", "b", "c"]
    for number, tag in enumerate((3, 1, 2), 1):
        other.send("basic.reject", delivery_tag=tag, requeue=True)
        has_ready(channel, queue, 1 + number)
    order = ["c", "a", "b", "d"] if limit else ["d", "c", "a", "b"]
    assert other.arrivals_kept(queue, 4) == order
    other.close()
    assert channel.arrivals(queue, 4) == order


def test_who_got_a_message_is_no_consumer(
    channel: Channel, quorum: Declare, differs_from_rabbitmq: Differs
) -> None:
    queue = quorum("ab")
    channel.arrival(queue, no_ack=False)
    consumers = differs_from_rabbitmq("an unacked get stands among its consumers", rabbitmq=1, ours=0)
    channel.counts_become(queue, 1, consumers)


def test_an_exclusive_consumer_is_the_only_one(
    channel: Channel, client: Client, quorum: Declare, differs_from_rabbitmq: Differs
) -> None:
    queue = quorum("")
    channel.consume(queue, exclusive=True)
    other = client.channel()
    differs_from_rabbitmq(
        "it lets a second consumer in",
        rabbitmq=lambda: other.consume(queue),
        ours=lambda: refused(other, queue),
    )()


def refused(channel: Channel, queue: str) -> None:
    channel.send("basic.consume", queue=queue)
    channel.refuses(403, f"queue '{queue}' in vhost '/' in exclusive use", "basic.consume")
