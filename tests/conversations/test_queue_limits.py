"""Queues with limits and with priorities: what they keep, and what they give out first."""

from __future__ import annotations

import pytest

from .client import Channel
from .conftest import Names


def test_the_highest_priority_is_got_first(channel: Channel, names: Names) -> None:
    queue = channel.declare(names.queue(), arguments={"x-max-priority": 5})
    channel.publish("none", routing_key=queue)
    for body, priority in (("low", 1), ("zero", 0), ("high", 5), ("beyond", 200), ("mid", 3), ("five", 5)):
        channel.publish(body, routing_key=queue, priority=priority)
    assert channel.drain(queue) == ["high", "beyond", "five", "mid", "low", "none", "zero"]


@pytest.mark.parametrize("limit", [0, 1, 3])
def test_a_limited_queue_keeps_the_newest(channel: Channel, names: Names, limit: int) -> None:
    queue = channel.declare(names.queue(), arguments={"x-max-length": limit})
    for body in "abcde":
        channel.publish(body, routing_key=queue)
    assert channel.drain(queue) == list("abcde")[5 - limit :]


def test_a_queue_limited_in_octets_keeps_the_newest(channel: Channel, names: Names) -> None:
    queue = channel.declare(names.queue(), arguments={"x-max-length-bytes": 6})
    for body in ("aaa", "bbb", "ccc"):
        channel.publish(body, routing_key=queue)
    assert channel.drain(queue) == ["bbb", "ccc"]


def test_what_is_dropped_by_length_is_confirmed(channel: Channel, names: Names) -> None:
    channel.call("confirm.select")
    queue = channel.declare(names.queue(), arguments={"x-max-length": 1})
    for body in "ab":
        channel.publish(body, routing_key=queue)
    last = channel.expect("basic.ack")
    if last["delivery_tag"] == 1:
        last = channel.expect("basic.ack")
    assert last["delivery_tag"] == 2
    assert channel.drain(queue) == ["b"]


def test_what_is_refused_by_length_is_nacked(channel: Channel, names: Names) -> None:
    channel.call("confirm.select")
    queue = channel.declare(names.queue(), arguments={"x-max-length": 1, "x-overflow": "reject-publish"})
    channel.publish("a", routing_key=queue)
    channel.expect("basic.ack", delivery_tag=1, multiple=False)
    channel.publish("b", routing_key=queue)
    # multiple may be set, as there is nothing before it left to settle; requeue has no meaning to a publisher
    channel.expect("basic.nack", delivery_tag=2)
    channel.publish("c", routing_key="nowhere")
    channel.expect("basic.ack", delivery_tag=3)
    assert channel.drain(queue) == ["a"]
