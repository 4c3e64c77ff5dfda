"""aio-pika in the common scenarios."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import aio_pika
from aio_pika import DeliveryMode, Message
from aio_pika.abc import AbstractChannel, AbstractIncomingMessage, AbstractQueue
from aiormq.exceptions import AMQPError, ChannelClosed
from harness import (
    CA,
    HOST,
    LARGE,
    OTHER_CA,
    PATIENCE,
    PORT,
    PREFIX,
    TLS_PORT,
    URL,
    ask,
    eventually,
    fibonacci,
    main,
    same,
)


@contextlib.asynccontextmanager
async def channels(count: int = 1, confirms: bool = True) -> AsyncIterator[Any]:
    async with await aio_pika.connect(URL) as connection:
        opened = [await connection.channel(publisher_confirms=confirms) for _ in range(count)]
        yield opened[0] if count == 1 else opened


async def exclusive(channel: AbstractChannel, **arguments: Any) -> AbstractQueue:
    return await channel.declare_queue(exclusive=True, arguments=arguments)


async def send(channel: AbstractChannel, to: AbstractQueue | str, body: bytes, **properties: Any) -> Any:
    key = to if isinstance(to, str) else to.name
    return await channel.default_exchange.publish(Message(body, **properties), key)


async def take(queue: AbstractQueue, count: int = 1) -> list[AbstractIncomingMessage]:
    """The next messages of an iterator that needs no acknowledgements."""
    found: list[AbstractIncomingMessage] = []
    async with queue.iterator(no_ack=True, timeout=PATIENCE) as messages:
        async for message in messages:
            found.append(message)
            if len(found) == count:
                break
    return found


async def bodies(queue: AbstractQueue, count: int) -> list[bytes]:
    return [message.body for message in await take(queue, count)]


async def ready(channel: AbstractChannel, queue: AbstractQueue | str) -> int:
    name = queue if isinstance(queue, str) else queue.name
    declared = await channel.declare_queue(name, passive=True)
    return int(declared.declaration_result.message_count or 0)


async def got(queue: AbstractQueue, **options: Any) -> AbstractIncomingMessage:
    return await eventually(lambda: queue.get(fail=False, **options), f"a message in {queue.name}")


async def soon(future: Awaitable[Any]) -> Any:
    return await asyncio.wait_for(future, PATIENCE)


async def hello() -> None:
    async with channels() as channel:
        queue = await exclusive(channel)
        await send(channel, queue, b"Hello World!")
        same(await bodies(queue, 1), [b"Hello World!"])


async def work_queues() -> None:
    async with channels(2) as (first, second):
        queue = await exclusive(first)
        of_first: asyncio.Queue[AbstractIncomingMessage] = asyncio.Queue()
        of_second: asyncio.Queue[AbstractIncomingMessage] = asyncio.Queue()
        for channel, sink in ((first, of_first), (second, of_second)):
            await channel.set_qos(prefetch_count=1)
            await (await channel.get_queue(queue.name)).consume(sink.put)
        for task in (b"one", b"two"):
            await send(second, queue, task, delivery_mode=DeliveryMode.PERSISTENT)
        one, two = await soon(of_first.get()), await soon(of_second.get())
        same({one.body, two.body}, {b"one", b"two"})
        await first.close()
        await two.ack()
        again = await soon(of_second.get())
        same((again.body, again.redelivered), (one.body, True))
        await again.ack()


async def publish_subscribe() -> None:
    await routed("fanout", [[""], [""]], ["news"], [[b"news"], [b"news"]])


async def routed(kind: str, bindings: list[list[str]], keys: list[str], expected: list[list[bytes]]) -> None:
    async with channels() as channel:
        exchange = await channel.declare_exchange(f"{PREFIX}-{kind}", kind, auto_delete=True)
        queues = [await exclusive(channel) for _ in bindings]
        for queue, patterns in zip(queues, bindings, strict=True):
            for pattern in patterns:
                await queue.bind(exchange, pattern)
        for key in keys:
            await exchange.publish(Message(key.encode()), key, mandatory=False)
        same([await bodies(queue, await ready(channel, queue)) for queue in queues], expected)


async def routing() -> None:
    keys = ["info", "error", "debug", "warning"]
    await routed(
        "direct",
        [["error"], ["info", "warning", "error"]],
        keys,
        [[b"error"], [b"info", b"error", b"warning"]],
    )


async def topics() -> None:
    keys = ["kern.critical", "cron.info", "cron.critical", "kern.a.b"]
    expected = [[b"kern.critical"], [b"kern.critical", b"cron.critical"], [key.encode() for key in keys]]
    await routed("topic", [["kern.*"], ["*.critical"], ["#"]], keys, expected)


async def rpc() -> None:
    async with channels(2) as (server, client):
        queue = await exclusive(server)

        async def answer(message: AbstractIncomingMessage) -> None:
            async with message.process():
                result = str(fibonacci(int(message.body))).encode()
                await send(server, str(message.reply_to), result, correlation_id=message.correlation_id)

        await queue.consume(answer)
        direct = await client.get_queue("amq.rabbitmq.reply-to", ensure=False)
        for callback in (await exclusive(client), direct):
            answers: asyncio.Queue[AbstractIncomingMessage] = asyncio.Queue()
            await callback.consume(answers.put, no_ack=True)
            for n in ("5", "10"):
                await send(client, queue, n.encode(), reply_to=callback.name, correlation_id=n)
            found = [await soon(answers.get()) for _ in range(2)]
            same({each.correlation_id: each.body for each in found}, {"5": b"5", "10": b"55"})


async def confirms() -> None:
    async with channels() as channel:
        queue = await exclusive(channel)
        for number in range(20):
            await send(channel, queue, f"single {number}".encode())
        await asyncio.gather(*(send(channel, queue, f"batch {number}".encode()) for number in range(50)))
        tasks = [asyncio.create_task(send(channel, queue, b"async")) for _ in range(50)]
        await soon(asyncio.wait(tasks))
        same(await ready(channel, queue), 120)


async def confirm_window() -> str:
    async with channels() as channel:
        queue = await channel.declare_queue(f"{PREFIX}-window", durable=True)
        window, open_now, most = asyncio.Semaphore(100), 0, 0

        async def publish() -> bool:
            nonlocal open_now, most
            async with window:
                open_now += 1
                most = max(most, open_now)
                confirmed = await send(channel, queue, b"x" * 100, delivery_mode=DeliveryMode.PERSISTENT)
                open_now -= 1
                return bool(confirmed)

        results = await asyncio.gather(*(publish() for _ in range(1000)))
        same((sum(results), await ready(channel, queue)), (1000, 1000))
        await queue.delete(if_empty=False)
    return f"at most {most} unconfirmed"


async def mandatory() -> str:
    async with channels() as channel:
        queue = await exclusive(channel)
        same(bool(await send(channel, queue, b"routed")), True)
        returned = await send(channel, f"{PREFIX}-nowhere", b"lost", message_id="m1")
        same((returned.delivery.reply_code, returned.delivery.reply_text), (312, "NO_ROUTE"))
        same((returned.body, returned.header.properties.message_id), (b"lost", "m1"))
        same(await bodies(queue, 1), [b"routed"])
    return "publish() gives the returned message when its confirm comes"


async def prefetch() -> None:
    async with channels(2) as (channel, look):
        queue = await exclusive(channel)
        for number in range(10):
            await send(look, queue, str(number).encode())
        await channel.set_qos(prefetch_count=3)
        deliveries: asyncio.Queue[AbstractIncomingMessage] = asyncio.Queue()
        await queue.consume(deliveries.put)
        for held, more in ((3, 3), (6, 3), (9, 3), (10, 1)):
            last = [await soon(deliveries.get()) for _ in range(more)][-1]
            same(await ready(look, queue), 10 - held)
            await last.ack(multiple=True)
        await channel.close()


def death(message: AbstractIncomingMessage) -> dict[str, Any]:
    deaths: Any = message.headers["x-death"]
    return dict(deaths[0])


async def dead_letter() -> None:
    async with channels() as channel:
        grave = await exclusive(channel)
        queue = await exclusive(
            channel, **{"x-dead-letter-exchange": "", "x-dead-letter-routing-key": grave.name}
        )
        for body in (b"0", b"1"):
            await send(channel, queue, body)
        await (await got(queue)).nack(requeue=True)
        again = await got(queue)
        same((again.redelivered, again.body), (True, b"0"))
        await (await got(queue)).nack(multiple=True, requeue=False)
        for message in await take(grave, 2):
            found = death(message)
            same((found["reason"], found["queue"], found["count"]), ("rejected", queue.name, 1))


async def priorities() -> None:
    async with channels() as channel:
        queue = await exclusive(channel, **{"x-max-priority": 10})
        for priority in (1, 5, 9, 3):
            await send(channel, queue, str(priority).encode(), priority=priority)
        same(await bodies(queue, 4), [b"9", b"5", b"3", b"1"])


async def ttl() -> None:
    async with channels() as channel:
        grave = await exclusive(channel)
        dead = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": grave.name}
        by_message = await exclusive(channel, **dead)
        by_queue = await exclusive(channel, **dead, **{"x-message-ttl": 40})
        await send(channel, by_message, b"message", expiration=0.04)
        await send(channel, by_queue, b"queue")
        found = {message.body: death(message)["reason"] for message in await take(grave, 2)}
        same(found, {b"message": "expired", b"queue": "expired"})
        await send(channel, by_message, b"stays")
        same(await bodies(by_message, 1), [b"stays"])


async def large_and_empty() -> None:
    async with channels() as channel:
        queue = await exclusive(channel)
        await send(channel, queue, LARGE)
        await send(channel, queue, b"")
        received = await bodies(queue, 2)
        same((received[0] == LARGE, received[1]), (True, b""))


VALUES = {
    "bool": True,
    "int": -(2**31),
    "long": 2**62,
    "double": 2.5,
    "decimal": Decimal("12.34"),
    "string": "text é",
    "bytes": bytearray(b"\x00\xff"),
    "timestamp": datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
    "table": {"nested": {"deep": 1}},
    "array": [1, "two", [3], {"four": 4}],
    "void": None,
}


async def table_values() -> str:
    async with channels() as channel:
        queue = await exclusive(channel)
        await send(channel, queue, b"", headers=VALUES)
        same(dict((await take(queue))[0].headers), VALUES)
    return ", ".join(VALUES)


async def headers_to_the_byte() -> str:
    relay = await ask("relay")
    async with await aio_pika.connect(URL.replace(str(PORT), relay)) as connection:
        channel = await connection.channel()
        queue = await exclusive(channel)
        await send(
            channel,
            queue,
            b"body",
            headers=VALUES,
            content_type="text/plain",
            content_encoding="utf-8",
            delivery_mode=DeliveryMode.PERSISTENT,
            priority=3,
            correlation_id="correlation",
            reply_to="reply",
            expiration=60,
            message_id="id",
            timestamp=1700000000,
            type="kind",
            user_id="guest",
            app_id="app",
        )
        await take(queue)
        return f"{await ask('headers', relay)} header"


async def consumer_cancel() -> str:
    async with channels(2) as (channel, other):
        queue = await exclusive(channel)
        told: asyncio.Queue[Any] = asyncio.Queue()
        underlay = await channel.get_underlay_channel()
        underlay.on_consumer_cancel_callbacks.add(told.put)
        tag = await queue.consume(lambda _: asyncio.sleep(0))
        await (await other.get_queue(queue.name)).delete(if_unused=False, if_empty=False)
        same((await soon(told.get())).consumer_tag, tag)
    return "by the channel below"


class Told(logging.Handler):
    """aiormq tells of connection.blocked and connection.unblocked in its log, and holds publishing in between."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: asyncio.Queue[str] = asyncio.Queue()

    def emit(self, record: logging.LogRecord) -> None:
        if "blocked" in str(record.msg):
            self.lines.put_nowait(record.getMessage())


async def blocked() -> str:
    told = Told()
    logging.getLogger("aiormq.connection").addHandler(told)
    async with channels() as channel:
        queue = await exclusive(channel)
        await ask("alarm", "on")
        first = asyncio.create_task(send(channel, queue, b"is noticed"))
        reason = await soon(told.lines.get())
        waiting = asyncio.create_task(send(channel, queue, b"waits"))
        done, _ = await asyncio.wait([waiting], timeout=0.5)
        same(len(done), 0, "a publish was confirmed during the alarm")
        await ask("alarm", "off")
        same(bool(await soon(waiting)), True)
        await soon(first)
        same("unblocked" in await soon(told.lines.get()), True)
    return "told in its log, publishing waits: " + reason.partition(": ")[2].partition(": ")[2]


async def recovery() -> str:
    name = f"{PREFIX}-recovery"
    async with await aio_pika.connect_robust(URL, reconnect_interval=0.2) as connection:
        channel = await connection.channel()
        exchange = await channel.declare_exchange(name, "direct", durable=True)
        queue = await channel.declare_queue(name, durable=True)
        await queue.bind(exchange, "key")
        await exchange.publish(Message(b"before", delivery_mode=DeliveryMode.PERSISTENT), "key")
        seen: asyncio.Queue[AbstractIncomingMessage] = asyncio.Queue()
        await queue.consume(seen.put)
        same((await soon(seen.get())).body, b"before")  # and not acknowledged
        await ask("restart")
        await republish(exchange, Message(b"after", delivery_mode=DeliveryMode.PERSISTENT))
        found = []
        for _ in range(2):
            message = await soon(seen.get())
            found.append(message.body)
            await message.ack()
        same(found, [b"before", b"after"])
        await queue.delete(if_unused=False, if_empty=False)
        await exchange.delete()
    return "by the library (connect_robust): connection, topology and consumer"


async def republish(exchange: Any, message: Message) -> None:
    """Publish as soon as the library lets us."""

    async def published() -> bool:
        try:
            return bool(await exchange.publish(message, "key", timeout=5))
        except (ConnectionError, aio_pika.exceptions.AMQPError, RuntimeError, TimeoutError):
            return False

    await eventually(published, "a publish after the restart")


async def heartbeats() -> str:
    relay = await ask("relay")
    connection = await aio_pika.connect(URL.replace(str(PORT), relay) + "?heartbeat=1")
    lost: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    connection.close_callbacks.add(lambda _, error: lost.done() or lost.set_result(error))
    channel = await connection.channel()
    await asyncio.sleep(3.5)
    same((channel.is_closed, lost.done()), (False, False))
    await ask("freeze", relay)
    reason = await soon(lost)
    await ask("dropped", relay)
    return f"{type(reason).__name__}: {reason}"


async def tls() -> str:
    def over(authority: str) -> Awaitable[Any]:
        context = ssl.create_default_context(cafile=authority)
        return aio_pika.connect(host=HOST, port=TLS_PORT, ssl=True, ssl_context=context)

    async with await over(CA) as connection:
        channel = await connection.channel()
        queue = await exclusive(channel)
        await send(channel, queue, b"secret")
        same(await bodies(queue, 1), [b"secret"])
    return type(await error_of(over(OTHER_CA))).__name__


async def error_of(work: Awaitable[Any]) -> Exception:
    try:
        await work
    except Exception as error:
        return error
    raise AssertionError("it was not refused")


# The library has a class for each code; the number itself is left out, the text is not.
REASONS = {
    403: "ACCESS_REFUSED",
    404: "NOT_FOUND",
    405: "RESOURCE_LOCKED",
    406: "PRECONDITION_FAILED",
    530: "got <Connection.Close",  # it expects open-ok, and does not look into what came instead
}


async def errors() -> str:
    name = f"{PREFIX}-errors"
    async with await aio_pika.connect(URL) as connection, await aio_pika.connect(URL) as other:
        await (await connection.channel()).declare_queue(name, exclusive=True)
        attempts: list[tuple[int, Any, Callable[[Any], Awaitable[Any]]]] = [
            (404, connection, lambda channel: channel.declare_queue(f"{PREFIX}-missing", passive=True)),
            (406, connection, lambda channel: channel.declare_queue(name, exclusive=True, auto_delete=True)),
            (406, connection, unknown_tag),
            (405, other, lambda channel: channel.declare_queue(name, passive=True)),
        ]
        names = set()
        for code, opener, work in attempts:
            error = await error_of(work(await opener.channel()))
            same((isinstance(error, ChannelClosed), REASONS[code] in str(error)), (True, True), repr(error))
            names.add(type(error).__name__)
    for url, code in ((URL.replace("guest:guest", "guest:wrong"), 403), (URL + "missing", 530)):
        error = await error_of(aio_pika.connect(url))
        same((isinstance(error, AMQPError), REASONS[code] in repr(error)), (True, True), repr(error))
        names.add(type(error).__name__)
    return ", ".join(sorted(names))


async def unknown_tag(channel: Any) -> None:
    closed: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    channel.close_callbacks.add(lambda _, error: closed.done() or closed.set_result(error))
    underlay = await channel.get_underlay_channel()
    await underlay.basic_ack(42)
    raise await soon(closed)


if __name__ == "__main__":
    main(
        {
            "tutorial-1-hello": hello,
            "tutorial-2-work-queues": work_queues,
            "tutorial-3-publish-subscribe": publish_subscribe,
            "tutorial-4-routing": routing,
            "tutorial-5-topics": topics,
            "tutorial-6-rpc": rpc,
            "tutorial-7-confirms": confirms,
            "confirm-window": confirm_window,
            "mandatory-return": mandatory,
            "prefetch-multiple-ack": prefetch,
            "nack-dead-letter": dead_letter,
            "priorities": priorities,
            "ttl": ttl,
            "large-and-empty": large_and_empty,
            "table-values": table_values,
            "headers-to-the-byte": headers_to_the_byte,
            "consumer-cancel": consumer_cancel,
            "connection-blocked": blocked,
            "recovery": recovery,
            "heartbeats": heartbeats,
            "tls": tls,
            "errors": errors,
        }
    )
