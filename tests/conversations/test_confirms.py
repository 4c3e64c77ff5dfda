"""Publisher confirms: numbers, order with returns, coalescing, and what an error leaves unconfirmed."""

from __future__ import annotations

from typing import Any

import pytest

from .client import Channel, Client
from .conftest import Names


@pytest.fixture
def confirming(client: Client) -> Channel:
    channel = client.channel()
    assert channel.call("confirm.select") == {}
    return channel


def confirmed(channel: Channel, count: int) -> list[int]:
    """The numbers confirmed, in order, until `count` of them are; each may be confirmed once."""
    numbers: list[int] = []
    settled: set[int] = set()
    while len(numbers) < count:
        ack = channel.expect("basic.ack")
        tag = ack["delivery_tag"]
        new = [n for n in range(1, tag + 1) if n not in settled] if ack["multiple"] else [tag]
        assert not settled.intersection(new), f"{new} confirmed again"
        settled.update(new)
        numbers += new
    return numbers


def test_confirm_select_may_be_repeated(confirming: Channel) -> None:
    assert confirming.call("confirm.select") == {}
    confirming.publish("m", routing_key="nowhere")
    confirming.expect("basic.ack", delivery_tag=1)


def test_confirm_select_with_nowait_has_no_reply(channel: Channel) -> None:
    channel.send("confirm.select", nowait=True)
    channel.publish("m", routing_key="nowhere")
    assert channel.receive().arguments == {"delivery_tag": 1, "multiple": False}


def test_selecting_again_does_not_restart_the_numbers(confirming: Channel) -> None:
    for number in (1, 2):
        confirming.publish("m", routing_key="nowhere")
        confirming.expect("basic.ack", delivery_tag=number, multiple=False)
        confirming.call("confirm.select")


def test_a_single_publish_is_confirmed_singly(confirming: Channel, queue: str) -> None:
    for number in (1, 2, 3):
        confirming.publish("m", routing_key=queue)
        assert confirming.expect("basic.ack").arguments == {"delivery_tag": number, "multiple": False}


@pytest.mark.parametrize("mode", [1, 2])
@pytest.mark.parametrize("durable", [True, False])
def test_every_kind_of_message_is_confirmed(
    confirming: Channel, names: Names, mode: int, durable: bool
) -> None:
    queue = confirming.declare(names.queue(), durable=durable)
    confirming.publish("m", routing_key=queue, delivery_mode=mode)
    confirming.expect("basic.ack", delivery_tag=1, multiple=False)
    assert confirming.drain(queue) == ["m"]


@pytest.mark.parametrize("exchange", ["", "amq.direct", "amq.fanout", "amq.topic", "amq.headers"])
def test_an_unroutable_message_is_confirmed(confirming: Channel, exchange: str) -> None:
    confirming.publish("m", exchange=exchange, routing_key="no.such.key")
    assert confirming.expect("basic.ack").arguments == {"delivery_tag": 1, "multiple": False}


def test_a_return_comes_before_the_confirm_of_the_same_message(confirming: Channel) -> None:
    confirming.publish("m", exchange="amq.direct", routing_key="unbound", mandatory=True)
    confirming.expect("basic.return", routing_key="unbound")
    confirming.expect("basic.ack", delivery_tag=1)


def test_many_returns_come_each_before_its_confirm(confirming: Channel) -> None:
    for number in range(20):
        confirming.publish(str(number), exchange="amq.direct", routing_key="unbound", mandatory=True)
    returned = confirmed_up_to = 0
    while confirmed_up_to < 20:
        reply = confirming.receive()
        if reply.name == "basic.return":
            assert reply.body == str(returned).encode()
            returned += 1
        else:
            assert reply.name == "basic.ack"
            confirmed_up_to = max(confirmed_up_to, reply["delivery_tag"])
        assert returned >= confirmed_up_to
    assert returned == 20


def test_every_one_of_many_messages_is_confirmed_once(confirming: Channel, queue: str) -> None:
    for number in range(300):
        confirming.publish(str(number), routing_key=queue if number % 3 else "nowhere")
    assert sorted(confirmed(confirming, 300)) == list(range(1, 301))
    confirming.hears_nothing()


def test_every_one_of_many_durable_messages_is_confirmed_once(confirming: Channel, names: Names) -> None:
    queue = confirming.declare(names.queue(), durable=True)
    for number in range(300):
        confirming.publish(str(number), routing_key=queue, delivery_mode=1 + number % 2)
    assert sorted(confirmed(confirming, 300)) == list(range(1, 301))
    assert confirming.counts(queue) == (300, 0)


def test_a_message_for_many_queues_is_confirmed_once(confirming: Channel, names: Names) -> None:
    exchange = names.exchange()
    confirming.call("exchange.declare", exchange=exchange, type="fanout")
    for durable in (True, False, True):
        confirming.bind(confirming.declare(names.queue(), durable=durable), exchange)
    confirming.publish("m", exchange=exchange, delivery_mode=2)
    confirming.expect("basic.ack", delivery_tag=1, multiple=False)
    confirming.hears_nothing()


def test_a_message_delivered_at_once_is_confirmed(confirming: Channel, names: Names) -> None:
    queue = confirming.declare(names.queue(), durable=True)
    confirming.consume(queue)
    confirming.publish("m", routing_key=queue, delivery_mode=2)
    assert {confirming.receive().name, confirming.receive().name} == {"basic.deliver", "basic.ack"}


def test_a_message_confirmed_counts_as_ready(confirming: Channel, queue: str) -> None:
    confirming.publish("m", routing_key=queue)
    confirming.expect("basic.ack")
    assert confirming.counts(queue) == (1, 0)


def test_numbers_are_each_channels_own(client: Client, queue: str) -> None:
    for _ in range(2):
        channel = client.channel()
        channel.call("confirm.select")
        channel.publish("m", routing_key=queue)
        channel.expect("basic.ack", delivery_tag=1)


def test_messages_from_before_the_select_are_not_counted(channel: Channel, queue: str) -> None:
    channel.publish("before", routing_key=queue)
    channel.call("confirm.select")
    channel.publish("after", routing_key=queue)
    channel.expect("basic.ack", delivery_tag=1, multiple=False)
    channel.hears_nothing()


def test_a_channel_opened_again_is_not_confirming(confirming: Channel, queue: str) -> None:
    confirming.close()
    confirming.open()
    confirming.publish("m", routing_key=queue)
    confirming.hears_nothing(queue)


def test_an_error_leaves_the_message_unconfirmed(confirming: Channel, names: Names) -> None:
    missing = names.exchange()
    confirming.publish("m", exchange=missing)
    confirming.refuses(404, f"no exchange '{missing}' in vhost '/'", "basic.publish")
    confirming.hears_nothing()


@pytest.mark.parametrize(
    ("first", "then", "text"),
    [
        ("confirm.select", "tx.select", "cannot switch from confirm to tx mode"),
        ("tx.select", "confirm.select", "cannot switch from tx to confirm mode"),
        ("confirm.select", "tx.commit", "channel is not transactional"),
        ("confirm.select", "tx.rollback", "channel is not transactional"),
    ],
)
def test_confirms_and_transactions_exclude_each_other(
    channel: Channel, first: str, then: str, text: str
) -> None:
    channel.call(first)
    channel.send(then)
    channel.refuses(406, text, then)


@pytest.mark.parametrize("nowait", [True, False])
def test_a_transactional_channel_refuses_confirms_with_nowait_too(channel: Channel, nowait: bool) -> None:
    channel.call("tx.select")
    channel.send("confirm.select", nowait=nowait)
    channel.refuses(406, "cannot switch from tx to confirm mode", "confirm.select")


def test_acks_of_the_client_and_of_the_broker_do_not_mix(confirming: Channel, queue: str) -> None:
    for number in (1, 2):
        confirming.publish("m", routing_key=queue)
        confirming.expect("basic.ack", delivery_tag=number)
    arguments: dict[str, Any] = {"queue": queue, "no_ack": False}
    confirming.send("basic.get", **arguments)
    confirming.expect("basic.get-ok", delivery_tag=1)
    confirming.send("basic.ack", delivery_tag=2)
    confirming.refuses(406, "unknown delivery tag 2", "basic.ack")
