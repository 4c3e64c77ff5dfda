"""aio-pika: confirms, returns, message properties there and back, transactions."""

from __future__ import annotations

import asyncio
import random
from datetime import UTC, datetime
from typing import Any

import aio_pika
import pytest
from aio_pika import DeliveryMode, Message
from aio_pika.abc import AbstractChannel, AbstractConnection, AbstractIncomingMessage
from aio_pika.exceptions import DeliveryError, PublishError
from aiormq.abc import DeliveredMessage
from aiormq.exceptions import ChannelPreconditionFailed
from pamqp.commands import Basic

from tests.server.target import Names
from tests.server.test_aio_pika_topology import drain

pytestmark = pytest.mark.anyio


async def test_each_publish_waits_for_its_confirm(aio_channel: AbstractChannel, names: Names) -> None:
    queue = await aio_channel.declare_queue(names.queue(), durable=True)
    for number in range(20):
        message = Message(b"%d" % number, delivery_mode=DeliveryMode.PERSISTENT)
        confirmation = await aio_channel.default_exchange.publish(message, queue.name)
        assert isinstance(confirmation, Basic.Ack)
    assert await drain(queue) == [b"%d" % number for number in range(20)]


async def test_many_publishes_wait_together(aio_channel: AbstractChannel, names: Names) -> None:
    queue = await aio_channel.declare_queue(names.queue(), durable=True)
    publish = aio_channel.default_exchange.publish
    confirmations = await asyncio.gather(
        *(publish(Message(b"%d" % n, delivery_mode=DeliveryMode.PERSISTENT), queue.name) for n in range(500))
    )
    assert all(isinstance(confirmation, Basic.Ack) for confirmation in confirmations)
    assert await drain(queue) == [b"%d" % number for number in range(500)]


async def test_without_confirms_publishing_does_not_wait(
    aio_connection: AbstractConnection, names: Names
) -> None:
    channel = await aio_connection.channel(publisher_confirms=False)
    queue = await channel.declare_queue(names.queue())
    for number in range(100):
        assert await channel.default_exchange.publish(Message(b"%d" % number), queue.name) is None
    assert await drain(queue) == [b"%d" % number for number in range(100)]


async def test_an_unroutable_mandatory_message_is_the_answer(aio_channel: AbstractChannel) -> None:
    returned = await aio_channel.default_exchange.publish(Message(b"back", message_id="r"), "no-such-queue")
    assert isinstance(returned, DeliveredMessage)
    assert isinstance(returned.delivery, Basic.Return)
    assert (returned.delivery.reply_code, returned.delivery.reply_text) == (312, "NO_ROUTE")
    assert (returned.body, returned.header.properties.message_id) == (b"back", "r")


async def test_on_return_raises_raises(aio_connection: AbstractConnection) -> None:
    channel = await aio_connection.channel(on_return_raises=True)
    with pytest.raises(PublishError) as unroutable:
        await channel.default_exchange.publish(Message(b"lost"), "no-such-queue", mandatory=True)
    assert isinstance(unroutable.value, DeliveryError)
    assert unroutable.value.args == ("NO_ROUTE", "no-such-queue")


async def test_return_callbacks_see_the_message(aio_channel: AbstractChannel) -> None:
    returned: asyncio.Queue[AbstractIncomingMessage] = asyncio.Queue()
    aio_channel.return_callbacks.add(lambda _channel, message: returned.put_nowait(message))
    await aio_channel.default_exchange.publish(Message(b"lost", headers={"n": 1}), "no-such-queue")
    message = await asyncio.wait_for(returned.get(), 30)
    assert (message.body, message.headers, message.routing_key) == (b"lost", {"n": 1}, "no-such-queue")


async def test_an_unroutable_message_is_confirmed_unless_mandatory(aio_channel: AbstractChannel) -> None:
    confirmation = await aio_channel.default_exchange.publish(
        Message(b"lost"), "no-such-queue", mandatory=False
    )
    assert isinstance(confirmation, Basic.Ack)


async def test_every_property_comes_back_as_it_was(aio_channel: AbstractChannel, names: Names) -> None:
    queue = await aio_channel.declare_queue(names.queue())
    sent = Message(
        b"all of them",
        headers={"text": "t", "number": 1, "nested": {"list": [1, "two", None, True]}},
        content_type="application/json",
        content_encoding="utf-8",
        delivery_mode=DeliveryMode.PERSISTENT,
        priority=5,
        correlation_id="c-1",
        reply_to="replies",
        expiration=60,
        message_id="m-1",
        timestamp=datetime(2024, 2, 29, 12, 0, tzinfo=UTC),
        type="greeting",
        user_id="guest",
        app_id="tests",
    )
    await aio_channel.default_exchange.publish(sent, queue.name)
    received = await queue.get(no_ack=True)
    assert received.body == sent.body
    assert dict(received.properties) == dict(sent.properties)


@pytest.mark.parametrize(
    "value",
    [True, 0, -1, 127, 255, 32767, 65535, 2**31 - 1, -(2**31), 2**40, 1.5, -65536.0, "text", None, [], {}],
    ids=repr,
)
async def test_table_values_come_back_as_they_were(
    aio_channel: AbstractChannel, names: Names, value: Any
) -> None:
    queue = await aio_channel.declare_queue(names.queue())
    await aio_channel.default_exchange.publish(Message(b"", headers={"value": value}), queue.name)
    received = await queue.get(no_ack=True)
    assert received.headers == {"value": value}


@pytest.mark.parametrize("size", [0, 1, 131_063, 131_064, 131_065, 3_000_000])
async def test_a_body_of_any_size_comes_back_as_it_was(
    aio_channel: AbstractChannel, names: Names, size: int
) -> None:
    queue = await aio_channel.declare_queue(names.queue())
    body = random.Random(size).randbytes(size)
    await aio_channel.default_exchange.publish(Message(body), queue.name)
    assert (await queue.get(no_ack=True)).body == body


async def test_concurrent_publishers_on_one_channel_do_not_mix_frames(
    aio_channel: AbstractChannel, names: Names
) -> None:
    queue = await aio_channel.declare_queue(names.queue())
    bodies = [bytes([number]) * 200_000 for number in range(20)]
    await asyncio.gather(
        *(aio_channel.default_exchange.publish(Message(body), queue.name) for body in bodies)
    )
    assert sorted(await drain(queue)) == bodies


async def test_a_transaction_commits_at_the_end_of_its_block(
    aio_connection: AbstractConnection, names: Names
) -> None:
    channel = await aio_connection.channel(publisher_confirms=False)
    observer = await aio_connection.channel()
    queue = await observer.declare_queue(names.queue())
    async with channel.transaction():
        await channel.default_exchange.publish(Message(b"a"), queue.name)
        await channel.default_exchange.publish(Message(b"b"), queue.name)
        assert await queue.get(fail=False) is None
    assert await drain(queue) == [b"a", b"b"]


async def test_an_exception_rolls_a_transaction_back(
    aio_connection: AbstractConnection, names: Names
) -> None:
    channel = await aio_connection.channel(publisher_confirms=False)
    queue = await (await aio_connection.channel()).declare_queue(names.queue())

    async def fail_half_way() -> None:
        async with channel.transaction():
            await channel.default_exchange.publish(Message(b"discarded"), queue.name)
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fail_half_way()
    await channel.default_exchange.publish(Message(b"another"), queue.name)
    transaction = channel.transaction()
    await transaction.select()
    await transaction.rollback()
    assert await drain(queue) == []


async def test_a_confirming_channel_is_not_transactional(aio_channel: AbstractChannel) -> None:
    underlay = await aio_channel.get_underlay_channel()
    with pytest.raises(ChannelPreconditionFailed) as refused:
        await underlay.tx_select()
    assert refused.value.args == ("PRECONDITION_FAILED - cannot switch from confirm to tx mode",)


async def test_a_message_copied_from_a_delivery_is_the_same(
    aio_channel: AbstractChannel, names: Names
) -> None:
    first = await aio_channel.declare_queue(names.queue())
    second = await aio_channel.declare_queue(names.queue())
    await aio_channel.default_exchange.publish(
        aio_pika.Message(b"relay", headers={"hops": [1, 2]}, message_id="m", priority=3), first.name
    )
    relayed = await first.get(no_ack=True)
    await aio_channel.default_exchange.publish(aio_pika.Message(relayed.body, **_kept(relayed)), second.name)
    received = await second.get(no_ack=True)
    assert dict(received.properties) == dict(relayed.properties)


def _kept(message: AbstractIncomingMessage) -> dict[str, Any]:
    return {"headers": message.headers, "message_id": message.message_id, "priority": message.priority}
