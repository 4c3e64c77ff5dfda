"""aiormq, the AMQP library below aio-pika, by itself in the common scenarios."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import aiormq
from aiormq.abc import AbstractChannel, AbstractConnection, DeliveredMessage
from aiormq.exceptions import AMQPError, ChannelClosed, PublishError
from harness import (
    CA,
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
from pamqp.commands import Basic

Properties = Basic.Properties


@contextlib.asynccontextmanager
async def connected(url: str = URL) -> AsyncIterator[AbstractConnection]:
    connection = await aiormq.connect(url)
    try:
        yield connection
    finally:
        await connection.close()


@contextlib.asynccontextmanager
async def channels(count: int = 1) -> AsyncIterator[Any]:
    async with connected() as connection:
        opened = [await connection.channel() for _ in range(count)]
        yield opened[0] if count == 1 else opened


async def exclusive(channel: AbstractChannel, **arguments: Any) -> str:
    return str((await channel.queue_declare("", exclusive=True, arguments=arguments)).queue)


async def send(channel: AbstractChannel, key: str, body: bytes, exchange: str = "", **properties: Any) -> Any:
    return await channel.basic_publish(
        body,
        exchange=exchange,
        routing_key=key,
        properties=Properties(**properties),
        mandatory=exchange == "",
    )


async def consume(
    channel: AbstractChannel, queue: str, no_ack: bool = False
) -> asyncio.Queue[DeliveredMessage]:
    deliveries: asyncio.Queue[DeliveredMessage] = asyncio.Queue()
    await channel.basic_consume(queue, deliveries.put, no_ack=no_ack)
    return deliveries


async def soon(future: Awaitable[Any]) -> Any:
    return await asyncio.wait_for(future, PATIENCE)


async def take(channel: AbstractChannel, queue: str, count: int = 1) -> list[DeliveredMessage]:
    """The next messages of a consumer that needs no acknowledgements."""
    deliveries: asyncio.Queue[DeliveredMessage] = asyncio.Queue()
    ok = await channel.basic_consume(queue, deliveries.put, no_ack=True)
    found = [await soon(deliveries.get()) for _ in range(count)]
    await channel.basic_cancel(str(ok.consumer_tag))
    return found


async def bodies(channel: AbstractChannel, queue: str, count: int) -> list[bytes]:
    return [message.body for message in await take(channel, queue, count)]


async def ready(channel: AbstractChannel, queue: str) -> int:
    return int((await channel.queue_declare(queue, passive=True)).message_count or 0)


async def got(channel: AbstractChannel, queue: str) -> DeliveredMessage:
    async def one() -> DeliveredMessage | None:
        message = await channel.basic_get(queue)
        return message if isinstance(message.delivery, Basic.GetOk) else None

    return await eventually(one, f"a message in {queue}")


async def hello() -> None:
    async with channels() as channel:
        queue = await exclusive(channel)
        await send(channel, queue, b"Hello World!")
        same(await bodies(channel, queue, 1), [b"Hello World!"])


async def work_queues() -> None:
    async with channels(2) as (first, second):
        queue = await exclusive(first)
        for channel in (first, second):
            await channel.basic_qos(prefetch_count=1)
        of_first, of_second = await consume(first, queue), await consume(second, queue)
        for task in (b"one", b"two"):
            await send(second, queue, task, delivery_mode=2)
        one, two = await soon(of_first.get()), await soon(of_second.get())
        same({one.body, two.body}, {b"one", b"two"})
        await first.close()
        await second.basic_ack(two.delivery_tag)
        again = await soon(of_second.get())
        same((again.body, again.redelivered), (one.body, True))
        await second.basic_ack(again.delivery_tag)


async def routed(kind: str, bindings: list[list[str]], keys: list[str], expected: list[list[bytes]]) -> None:
    async with channels() as channel:
        exchange = f"{PREFIX}-{kind}"
        await channel.exchange_declare(exchange, exchange_type=kind, auto_delete=True)
        queues = [await exclusive(channel) for _ in bindings]
        for queue, patterns in zip(queues, bindings, strict=True):
            for pattern in patterns:
                await channel.queue_bind(queue, exchange, pattern)
        for key in keys:
            await send(channel, key, key.encode(), exchange)
        same([await bodies(channel, queue, await ready(channel, queue)) for queue in queues], expected)


async def publish_subscribe() -> None:
    await routed("fanout", [[""], [""]], ["news"], [[b"news"], [b"news"]])


async def routing() -> None:
    keys = ["info", "error", "debug", "warning"]
    expected = [[b"error"], [b"info", b"error", b"warning"]]
    await routed("direct", [["error"], ["info", "warning", "error"]], keys, expected)


async def topics() -> None:
    keys = ["kern.critical", "cron.info", "cron.critical", "kern.a.b"]
    expected = [[b"kern.critical"], [b"kern.critical", b"cron.critical"], [key.encode() for key in keys]]
    await routed("topic", [["kern.*"], ["*.critical"], ["#"]], keys, expected)


async def rpc() -> None:
    async with channels(2) as (server, client):
        queue = await exclusive(server)

        async def answer(message: DeliveredMessage) -> None:
            asked = message.header.properties
            result = str(fibonacci(int(message.body))).encode()
            await send(server, str(asked.reply_to), result, correlation_id=asked.correlation_id)
            await server.basic_ack(int(message.delivery_tag or 0))

        await server.basic_consume(queue, answer)
        for callback in (await exclusive(client), "amq.rabbitmq.reply-to"):
            answers = await consume(client, callback, no_ack=True)
            for n in ("5", "10"):
                await send(client, queue, n.encode(), reply_to=callback, correlation_id=n)
            found = [await soon(answers.get()) for _ in range(2)]
            received = {each.header.properties.correlation_id: each.body for each in found}
            same(received, {"5": b"5", "10": b"55"})


async def confirms() -> None:
    async with channels() as channel:
        queue = await exclusive(channel)
        for _ in range(20):
            same(isinstance(await send(channel, queue, b"single"), Basic.Ack), True)
        await asyncio.gather(*(send(channel, queue, b"batch") for _ in range(50)))
        tasks = [asyncio.create_task(send(channel, queue, b"async")) for _ in range(50)]
        await soon(asyncio.wait(tasks))
        same(await ready(channel, queue), 120)


async def confirm_window() -> str:
    async with channels() as channel:
        queue = f"{PREFIX}-window"
        await channel.queue_declare(queue, durable=True)
        window, open_now, most = asyncio.Semaphore(100), 0, 0

        async def publish() -> bool:
            nonlocal open_now, most
            async with window:
                open_now += 1
                most = max(most, open_now)
                confirmed = await send(channel, queue, b"x" * 100, delivery_mode=2)
                open_now -= 1
                return isinstance(confirmed, Basic.Ack)

        results = await asyncio.gather(*(publish() for _ in range(1000)))
        same((sum(results), await ready(channel, queue)), (1000, 1000))
        await channel.queue_delete(queue)
    return f"at most {most} unconfirmed"


async def mandatory() -> str:
    async with channels() as channel:
        queue = await exclusive(channel)
        same(isinstance(await send(channel, queue, b"routed"), Basic.Ack), True)
        error = await error_of(send(channel, f"{PREFIX}-nowhere", b"lost", message_id="m1"))
        assert isinstance(error, PublishError), repr(error)
        returned = error.message
        same((returned.delivery.reply_code, returned.delivery.reply_text), (312, "NO_ROUTE"))
        same((returned.body, returned.header.properties.message_id), (b"lost", "m1"))
    return "PublishError has the returned message"


async def prefetch() -> None:
    async with channels(2) as (channel, look):
        queue = await exclusive(channel)
        for number in range(10):
            await send(look, queue, str(number).encode())
        await channel.basic_qos(prefetch_count=3)
        deliveries = await consume(channel, queue)
        for held, more in ((3, 3), (6, 3), (9, 3), (10, 1)):
            last = [await soon(deliveries.get()) for _ in range(more)][-1]
            same(await ready(look, queue), 10 - held)
            await channel.basic_ack(last.delivery_tag, multiple=True)
        await channel.close()
        same(await ready(look, queue), 0)


def death(message: DeliveredMessage) -> dict[str, Any]:
    headers: Any = message.header.properties.headers
    return dict(headers["x-death"][0])


async def dead_letter() -> None:
    async with channels() as channel:
        grave = await exclusive(channel)
        arguments = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": grave}
        queue = await exclusive(channel, **arguments)
        for body in (b"0", b"1"):
            await send(channel, queue, body)
        first = await got(channel, queue)
        await channel.basic_nack(first.delivery_tag, requeue=True)
        again = await got(channel, queue)
        same((again.redelivered, again.body), (True, b"0"))
        second = await got(channel, queue)
        await channel.basic_nack(second.delivery_tag, multiple=True, requeue=False)
        for message in await take(channel, grave, 2):
            found = death(message)
            same((found["reason"], found["queue"], found["count"]), ("rejected", queue, 1))


async def priorities() -> None:
    async with channels() as channel:
        queue = await exclusive(channel, **{"x-max-priority": 10})
        for priority in (1, 5, 9, 3):
            await send(channel, queue, str(priority).encode(), priority=priority)
        same(await bodies(channel, queue, 4), [b"9", b"5", b"3", b"1"])


async def ttl() -> None:
    async with channels() as channel:
        grave = await exclusive(channel)
        dead = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": grave}
        by_message = await exclusive(channel, **dead)
        by_queue = await exclusive(channel, **dead, **{"x-message-ttl": 40})
        await send(channel, by_message, b"message", expiration="40")
        await send(channel, by_queue, b"queue")
        found = {message.body: death(message)["reason"] for message in await take(channel, grave, 2)}
        same(found, {b"message": "expired", b"queue": "expired"})
        await send(channel, by_message, b"stays")
        same(await bodies(channel, by_message, 1), [b"stays"])


async def large_and_empty() -> None:
    async with channels() as channel:
        queue = await exclusive(channel)
        await send(channel, queue, LARGE)
        await send(channel, queue, b"")
        received = await bodies(channel, queue, 2)
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
        same((await take(channel, queue))[0].header.properties.headers, VALUES)
    return ", ".join(VALUES)


async def headers_to_the_byte() -> str:
    relay = await ask("relay")
    async with connected(URL.replace(str(PORT), relay)) as connection:
        channel = await connection.channel()
        queue = await exclusive(channel)
        await send(
            channel,
            queue,
            b"body",
            content_type="text/plain",
            content_encoding="utf-8",
            headers=VALUES,
            delivery_mode=2,
            priority=3,
            correlation_id="correlation",
            reply_to="reply",
            expiration="60000",
            message_id="id",
            timestamp=datetime(2026, 1, 2, tzinfo=UTC),
            message_type="kind",
            user_id="guest",
            app_id="app",
        )
        await take(channel, queue)
        return f"{await ask('headers', relay)} header"


async def consumer_cancel() -> str:
    async with channels(2) as (channel, other):
        queue = await exclusive(channel)
        ok = await channel.basic_consume(queue, lambda _: asyncio.sleep(0))
        await other.queue_delete(queue)

        async def forgotten() -> bool:
            return ok.consumer_tag not in channel.consumers

        await eventually(forgotten, "the end of the consumer")
    return "the channel forgets the consumer; there is no callback"


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
        same(isinstance(await soon(waiting), Basic.Ack), True)
        await soon(first)
        same("unblocked" in await soon(told.lines.get()), True)
    return "told in its log, publishing waits: " + reason.partition(": ")[2].partition(": ")[2]


async def recovery() -> str:
    """The library leaves recovery to the program: connect, declare and consume again."""
    name = f"{PREFIX}-recovery"

    async def opened() -> AbstractChannel | None:
        try:
            channel = await (await aiormq.connect(URL)).channel()
        except (ConnectionError, AMQPError):
            return None
        await channel.exchange_declare(name, exchange_type="direct", durable=True)
        await channel.queue_declare(name, durable=True)
        await channel.queue_bind(name, name, "key")
        return channel

    channel = await eventually(opened, "a connection")
    lost: asyncio.Future[Any] = channel.connection.closing
    await send(channel, "key", b"before", name, delivery_mode=2)
    await ask("restart")
    await asyncio.wait([lost], timeout=PATIENCE)
    same(lost.done(), True, "the loss of the connection")
    channel = await eventually(opened, "a new connection")
    await send(channel, "key", b"after", name, delivery_mode=2)
    found = await bodies(channel, name, 2)
    await channel.queue_delete(name)
    await channel.exchange_delete(name)
    await channel.connection.close()
    same(found, [b"before", b"after"])
    return "by the program"


async def heartbeats() -> str:
    relay = await ask("relay")
    connection = await aiormq.connect(URL.replace(str(PORT), relay) + "?heartbeat=1")
    await connection.channel()
    lost: asyncio.Future[Any] = connection.closing
    await asyncio.sleep(3.5)
    same((connection.is_closed, lost.done()), (False, False))
    await ask("freeze", relay)
    await asyncio.wait([lost], timeout=PATIENCE)
    same(lost.done(), True, "the loss of the connection")
    await ask("dropped", relay)
    return repr(lost.exception())


async def tls() -> str:
    def over(authority: str) -> str:
        return f"amqps://guest:guest@localhost:{TLS_PORT}/?cafile={authority}"

    async with connected(over(CA)) as connection:
        channel = await connection.channel()
        queue = await exclusive(channel)
        await send(channel, queue, b"secret")
        same(await bodies(channel, queue, 1), [b"secret"])
    return type(await error_of(aiormq.connect(over(OTHER_CA)))).__name__


async def error_of(work: Awaitable[Any]) -> Exception:
    try:
        await work
    except Exception as error:
        return error
    raise AssertionError("it was not refused")


async def unknown_tag(channel: Any) -> None:
    await channel.basic_ack(42)
    await asyncio.wait([channel.closing], timeout=PATIENCE)
    await channel.closing


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
    async with connected() as connection, connected() as other:
        await (await connection.channel()).queue_declare(name, exclusive=True)
        attempts: list[tuple[int, Any, Callable[[Any], Awaitable[Any]]]] = [
            (404, connection, lambda channel: channel.queue_declare(f"{PREFIX}-missing", passive=True)),
            (406, connection, lambda channel: channel.queue_declare(name, exclusive=True, auto_delete=True)),
            (406, connection, unknown_tag),
            (405, other, lambda channel: channel.queue_declare(name, passive=True)),
        ]
        names = set()
        for code, opener, work in attempts:
            error = await error_of(work(await opener.channel()))
            same((isinstance(error, ChannelClosed), REASONS[code] in str(error)), (True, True), repr(error))
            names.add(type(error).__name__)
    for url, code in ((URL.replace("guest:guest", "guest:wrong"), 403), (URL + "missing", 530)):
        error = await error_of(aiormq.connect(url))
        same((isinstance(error, AMQPError), REASONS[code] in repr(error)), (True, True), repr(error))
        names.add(type(error).__name__)
    return ", ".join(sorted(names))


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
