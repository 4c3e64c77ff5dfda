"""aio-pika: queues, exchanges and bindings, and the class, code and text of what the client raises."""

from __future__ import annotations

from typing import Any

import aio_pika
import aiormq
import pytest
from aio_pika import ExchangeType, Message
from aio_pika.abc import AbstractChannel, AbstractConnection, AbstractIncomingMessage, AbstractQueue
from aio_pika.exceptions import ChannelClosed, QueueEmpty

from tests.server.target import Names, RunningBroker

pytestmark = pytest.mark.anyio


async def drain(queue: AbstractQueue) -> list[bytes]:
    bodies: list[bytes] = []
    while (message := await queue.get(no_ack=True, fail=False)) is not None:
        bodies.append(message.body)
    return bodies


async def test_declared_queues_report_name_and_counts(aio_channel: AbstractChannel, names: Names) -> None:
    name = names.queue()
    queue = await aio_channel.declare_queue(name, durable=True)
    for _ in range(3):
        await aio_channel.default_exchange.publish(Message(b"m"), name)
    again = await aio_channel.declare_queue(name, durable=True)
    result = again.declaration_result
    assert (queue.name, result.queue, result.message_count, result.consumer_count) == (name, name, 3, 0)


async def test_the_server_names_a_queue(aio_channel: AbstractChannel) -> None:
    queue = await aio_channel.declare_queue(exclusive=True)
    assert queue.name.startswith("amq.gen-")


@pytest.mark.parametrize("kind", ["direct", "fanout", "topic", "headers"])
async def test_each_exchange_type_routes(aio_channel: AbstractChannel, names: Names, kind: str) -> None:
    exchange = await aio_channel.declare_exchange(names.exchange(), ExchangeType(kind), durable=True)
    bound = await aio_channel.declare_queue(names.queue("bound"))
    other = await aio_channel.declare_queue(names.queue("other"))
    if kind == "headers":
        await bound.bind(exchange, arguments={"x-match": "all", "colour": "red"})
        await other.bind(exchange, arguments={"x-match": "all", "colour": "blue"})
    else:
        await bound.bind(exchange, "key" if kind == "direct" else "#.key")
        await other.bind(exchange, "other key")
    await exchange.publish(Message(b"m", headers={"colour": "red"}), "key")
    assert await drain(bound) == [b"m"]
    assert await drain(other) == ([b"m"] if kind == "fanout" else [])


async def test_exchanges_are_bound_to_exchanges(aio_channel: AbstractChannel, names: Names) -> None:
    outer = await aio_channel.declare_exchange(names.exchange("outer"), ExchangeType.TOPIC)
    inner = await aio_channel.declare_exchange(names.exchange("inner"), ExchangeType.FANOUT, internal=True)
    queue = await aio_channel.declare_queue(names.queue())
    await inner.bind(outer, "a.*")
    await queue.bind(inner)
    await outer.publish(Message(b"in"), "a.b")
    await outer.publish(Message(b"out"), "b.b")
    assert await drain(queue) == [b"in"]
    await inner.unbind(outer, "a.*")
    await outer.publish(Message(b"unbound"), "a.b")
    assert await drain(queue) == []


async def test_get_queue_and_get_exchange_check_that_they_exist(
    aio_connection: AbstractConnection, aio_channel: AbstractChannel, names: Names
) -> None:
    name = names.queue()
    await aio_channel.declare_queue(name)
    assert (await aio_channel.get_queue(name)).name == name
    assert (await aio_channel.get_exchange("amq.topic")).name == "amq.topic"
    with pytest.raises(aiormq.exceptions.ChannelNotFoundEntity) as missing:
        await aio_channel.get_queue("missing")
    assert missing.value.args == ("NOT_FOUND - no queue 'missing' in vhost '/'",)
    another = await aio_connection.channel()
    with pytest.raises(aiormq.exceptions.ChannelNotFoundEntity) as missing:
        await another.get_exchange("missing")
    assert missing.value.args == ("NOT_FOUND - no exchange 'missing' in vhost '/'",)


async def test_an_exclusive_queue_is_locked_for_others(
    broker: RunningBroker, aio_channel: AbstractChannel, names: Names
) -> None:
    name = names.queue()
    queue = await aio_channel.declare_queue(name, exclusive=True)
    async with await aio_pika.connect(broker.url) as other:
        channel = await other.channel()
        with pytest.raises(aiormq.exceptions.ChannelLockedResource) as locked:
            await channel.declare_queue(name, exclusive=True)
    assert str(locked.value.args[0]).startswith(
        f"RESOURCE_LOCKED - cannot obtain exclusive access to locked queue '{name}' in vhost '/'."
    )
    await queue.delete()


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"durable": True}, "'durable' for queue '{}' in vhost '/': received 'true' but current is 'false'"),
        (
            {"auto_delete": True},
            "'auto_delete' for queue '{}' in vhost '/': received 'true' but current is 'false'",
        ),
    ],
)
async def test_declaring_a_queue_differently_is_406(
    aio_channel: AbstractChannel, names: Names, change: dict[str, Any], text: str
) -> None:
    name = names.queue()
    await aio_channel.declare_queue(name)
    with pytest.raises(aiormq.exceptions.ChannelPreconditionFailed) as refused:
        await aio_channel.declare_queue(name, **change)
    assert refused.value.args == ("PRECONDITION_FAILED - inequivalent arg " + text.format(name),)


async def test_reserved_names_are_403(aio_channel: AbstractChannel) -> None:
    with pytest.raises(aiormq.exceptions.ChannelAccessRefused) as refused:
        await aio_channel.declare_queue("amq.mine")
    assert refused.value.args == ("ACCESS_REFUSED - queue name 'amq.mine' contains reserved prefix 'amq.*'",)


async def test_publishing_to_a_missing_exchange_is_404(aio_channel: AbstractChannel) -> None:
    exchange = await aio_channel.get_exchange("missing", ensure=False)
    with pytest.raises(ChannelClosed) as missing:
        await exchange.publish(Message(b"m"), "k")
    assert missing.value.args == ("NOT_FOUND - no exchange 'missing' in vhost '/'",)


async def test_purge_and_delete_count_messages(
    aio_connection: AbstractConnection, aio_channel: AbstractChannel, names: Names
) -> None:
    queue = await aio_channel.declare_queue(names.queue())
    for count in (3, 2):
        for _ in range(count):
            await aio_channel.default_exchange.publish(Message(b"m"), queue.name)
        if count == 3:
            assert (await queue.purge()).message_count == 3
    refusing = await aio_connection.channel()
    with pytest.raises(aiormq.exceptions.ChannelPreconditionFailed) as refused:
        await refusing.queue_delete(queue.name, if_empty=True)
    assert refused.value.args == (f"PRECONDITION_FAILED - queue '{queue.name}' in vhost '/' not empty",)
    assert (await queue.delete(if_unused=False, if_empty=False)).message_count == 2


async def test_an_exchange_is_deleted_only_if_unused(
    aio_connection: AbstractConnection, aio_channel: AbstractChannel, names: Names
) -> None:
    exchange = await aio_channel.declare_exchange(names.exchange(), ExchangeType.FANOUT)
    queue = await aio_channel.declare_queue(names.queue())
    await queue.bind(exchange)
    refusing = await aio_connection.channel()
    with pytest.raises(aiormq.exceptions.ChannelPreconditionFailed) as refused:
        await refusing.exchange_delete(exchange.name, if_unused=True)
    assert refused.value.args == (f"PRECONDITION_FAILED - exchange '{exchange.name}' in vhost '/' in use",)
    await queue.unbind(exchange)
    await exchange.delete(if_unused=True)
    with pytest.raises(aiormq.exceptions.ChannelNotFoundEntity):
        await aio_channel.get_exchange(exchange.name)


async def test_an_auto_delete_queue_goes_with_its_last_consumer(
    aio_connection: AbstractConnection, aio_channel: AbstractChannel, names: Names
) -> None:
    name = names.queue()
    queue = await aio_channel.declare_queue(name, auto_delete=True)

    async def on_message(message: AbstractIncomingMessage) -> None:
        await message.ack()

    tag = await queue.consume(on_message)
    await queue.cancel(tag)
    watcher = await aio_connection.channel()
    with pytest.raises(aiormq.exceptions.ChannelNotFoundEntity):
        await watcher.get_queue(name)


async def test_get_from_an_empty_queue_raises_or_gives_none(
    aio_channel: AbstractChannel, names: Names
) -> None:
    queue = await aio_channel.declare_queue(names.queue())
    with pytest.raises(QueueEmpty):
        await queue.get()
    assert await queue.get(fail=False) is None
