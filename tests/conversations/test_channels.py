"""Channels: opening, closing, reuse after an error, numbers, flow, and methods that are not the client's to
send.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from .client import Channel, Client
from .codec import BODY, CONTENT_METHODS, HEADER, METHOD, METHODS, encode_header, encode_method
from .conftest import Connect, Names

Differs = Callable[..., Any]


@pytest.mark.parametrize("number", [1, 2, 2047])
def test_a_channel_of_any_number_can_be_opened_and_closed(client: Client, number: int) -> None:
    channel = client.channel(number)
    assert channel.call("channel.close", reply_code=200) == {}
    channel.open()


def test_a_channel_cannot_be_opened_twice(channel: Channel) -> None:
    channel.send("channel.open")
    channel.client.refuses(504, "second 'channel.open' seen", "channel.open")


def test_a_second_open_is_read_first(channel: Channel) -> None:
    channel.client.send_frame(METHOD, channel.number, encode_method("channel.open", {}) + b"\0")
    channel.client.refuses(501, "cannot decode <<0,0>>", "channel.open")


WITH_CONTENT = [*CONTENT_METHODS, "basic.publish"]
NOT_ON_A_CHANNEL = [
    name for name in METHODS if name not in ("channel.open", "access.request-ok", *WITH_CONTENT)
]


@pytest.mark.parametrize("name", NOT_ON_A_CHANNEL)
def test_nothing_is_due_on_a_channel_before_it_is_opened(client: Client, name: str) -> None:
    # an empty queue name would be looked up first
    client.send(5, name, **({"queue": "q"} if "queue:s" in METHODS[name][2] else {}))
    client.refuses(504, "expected 'channel.open'", name)


@pytest.mark.parametrize("name", WITH_CONTENT)
def test_no_content_is_due_on_a_channel_before_it_is_opened(client: Client, name: str) -> None:
    client.send(5, name)
    client.send_frame(HEADER, 5, encode_header(0, {}))
    client.refuses(504, "expected 'channel.open'", name)


@pytest.mark.parametrize("name", ["basic.ack", "channel.close", "channel.close-ok", "queue.declare"])
def test_a_closed_channel_is_as_one_never_opened(channel: Channel, name: str) -> None:
    channel.close()
    channel.send(name)
    channel.client.refuses(504, "expected 'channel.open'", name)


NOT_THE_CLIENTS = [
    "connection.start",
    "connection.start-ok",
    "connection.secure-ok",
    "connection.tune-ok",
    "connection.open",
    "connection.close",
    "connection.close-ok",
    "connection.blocked",
    "connection.update-secret",
    "channel.open-ok",
    "channel.close-ok",
    "channel.flow-ok",
    "exchange.declare-ok",
    "queue.declare-ok",
    "queue.bind-ok",
    "basic.qos-ok",
    "basic.consume-ok",
    "basic.cancel-ok",
    "basic.get-empty",
    "basic.recover-ok",
    "confirm.select-ok",
    "tx.select-ok",
    "tx.commit-ok",
    "tx.rollback-ok",
]


@pytest.mark.parametrize("name", NOT_THE_CLIENTS)
def test_a_method_that_is_not_the_clients_closes_the_connection(channel: Channel, name: str) -> None:
    channel.send(name)
    channel.client.refuses(503, "unimplemented method", name)


@pytest.mark.parametrize("name", ["basic.deliver", "basic.get-ok", "basic.return"])
def test_a_method_with_content_that_is_not_the_clients_closes_the_connection(
    channel: Channel, name: str
) -> None:
    channel.send(name)
    channel.client.send_frame(HEADER, channel.number, encode_header(0, {}))
    channel.client.refuses(503, "unimplemented method", name)


def test_a_client_may_say_cancel_ok_to_a_cancel_notice(
    channel: Channel, client: Client, names: Names
) -> None:
    queue = channel.declare(names.queue())
    other = client.channel()
    other.consume(queue, "t")
    channel.call("queue.delete", queue=queue)
    other.expect("basic.cancel", consumer_tag="t")
    other.hears_nothing()


# after an error


def test_an_error_on_one_channel_leaves_the_others_alone(client: Client, queue: str) -> None:
    broken, well = client.channel(), client.channel()
    broken.send("queue.declare", queue="amq.no")
    broken.refuses(403, "queue name 'amq.no' contains reserved prefix 'amq.*'", "queue.declare")
    assert well.counts(queue) == (0, 0)


def test_until_close_ok_everything_on_the_channel_is_dropped(channel: Channel, queue: str) -> None:
    channel.send("queue.declare", queue="amq.no")
    assert channel.receive().name == "channel.close"
    channel.send("queue.delete", queue=queue)
    channel.publish("m" * 10, routing_key=queue)
    channel.send("basic.ack", delivery_tag=99)
    channel.send("queue.declare", queue="amq.no")
    channel.send("channel.close-ok")
    channel.open()
    assert channel.counts(queue) == (0, 0)


def test_until_close_ok_the_order_of_frames_still_matters(channel: Channel) -> None:
    channel.send("queue.declare", queue="amq.no")
    assert channel.receive().name == "channel.close"
    channel.client.send_frame(BODY, channel.number, b"stray")
    channel.client.refuses(505, "expected method frame, got non method frame instead")


def test_a_close_crossing_the_brokers_is_answered(channel: Channel) -> None:
    channel.send("queue.declare", queue="amq.no")
    channel.send("channel.close", reply_code=200)
    assert channel.receive().name == "channel.close"
    assert channel.receive().name == "channel.close-ok"
    channel.send("channel.close-ok")
    channel.client.send(2, "channel.open")
    assert channel.client.receive(2).name == "channel.open-ok"


def test_a_channel_opened_again_starts_afresh(channel: Channel, queue: str) -> None:
    channel.call("confirm.select")
    channel.call("basic.qos", prefetch_count=1, global_=True)
    channel.consume(queue, "t")
    channel.send("queue.declare", queue="amq.no")
    channel.refuses(403, "queue name 'amq.no' contains reserved prefix 'amq.*'", "queue.declare")
    channel.counts_become(queue, 0, 0)
    channel.call("tx.select")
    channel.call("tx.rollback")
    channel.consume(queue, "t")


@pytest.mark.parametrize("code", [200, 0, 404, 65535])
def test_close_may_give_any_reason(channel: Channel, code: int) -> None:
    assert channel.call("channel.close", reply_code=code, reply_text="x" * 255, class_id=9, method_id=9) == {}


# numbers


def test_a_connection_has_as_many_channels_as_were_negotiated(connect: Connect) -> None:
    client = connect(channel_max=3)
    for number in (1, 2, 3):
        client.channel(number)
    client.send(4, "channel.open")
    client.refuses(530, "number of channels opened (3) has reached the negotiated channel_max (3)")


def test_a_closed_channel_makes_room_for_another(connect: Connect) -> None:
    client = connect(channel_max=2)
    first, _ = client.channel(1), client.channel(2)
    first.close()
    client.channel(1)


def test_all_2047_channels_can_be_opened(client: Client) -> None:
    for number in range(1, 2048):
        client.send(number, "channel.open")
    seen = {client.expect("channel.open-ok").channel for _ in range(2047)}
    assert seen == set(range(1, 2048))


def test_a_channel_number_beyond_the_negotiated_one(connect: Connect, differs_from_rabbitmq: Differs) -> None:
    client = connect(channel_max=5)
    client.send(6, "channel.open")
    name = differs_from_rabbitmq(
        "it counts channels and does not look at numbers",
        rabbitmq={"channel.open-ok"},
        ours={"channel.open-ok", "connection.close"},
    )
    assert client.receive().name in name


# flow and access


def test_flow_can_be_asked_to_go_on(channel: Channel) -> None:
    assert channel.call("channel.flow", active=True) == {"active": True}


def test_flow_cannot_be_stopped(channel: Channel) -> None:
    channel.send("channel.flow", active=False)
    channel.client.refuses(540, "active=false", "channel.flow")


@pytest.mark.parametrize(
    "arguments", [{}, {"realm": "/data", "exclusive": True, "write": True}, {"realm": "nonsense"}]
)
def test_access_is_granted_to_anything(channel: Channel, arguments: dict[str, Any]) -> None:
    assert channel.call("access.request", **arguments) == {"ticket": 1}


def test_a_ticket_is_taken_and_ignored(channel: Channel, names: Names) -> None:
    queue = names.queue()
    assert channel.call("queue.declare", ticket=65535, queue=queue)["queue"] == queue


def test_each_channel_is_answered_in_its_own_order(client: Client, names: Names) -> None:
    channels = [client.channel() for _ in range(5)]
    queues = [names.queue() for _ in channels]
    for step in range(10):
        for channel, queue in zip(channels, queues, strict=True):
            channel.send("queue.declare" if step % 2 == 0 else "queue.delete", queue=queue)
    for channel in channels:
        seen = [channel.receive().name for _ in range(10)]
        assert seen == ["queue.declare-ok", "queue.delete-ok"] * 5
