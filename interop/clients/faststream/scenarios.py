"""FastStream's RabbitMQ broker as its users use it: subscribers and publishers of one application."""

from __future__ import annotations

import asyncio
from typing import Any

from faststream.exceptions import NackMessage, RejectMessage
from faststream.rabbit import ExchangeType, RabbitBroker, RabbitExchange, RabbitQueue
from faststream.rabbit.schemas.queue import QueueType
from harness import PATIENCE, PREFIX, URL, ask, eventually, main, same
from pydantic import BaseModel


class Order(BaseModel):
    number: int
    article: str


def broker() -> RabbitBroker:
    return RabbitBroker(URL, logger=None)


async def soon(seen: asyncio.Queue[Any]) -> Any:
    return await asyncio.wait_for(seen.get(), PATIENCE)


async def publish_subscribe() -> None:
    app, seen = broker(), asyncio.Queue[Order]()

    @app.subscriber(f"{PREFIX}-orders")
    async def take(order: Order) -> None:
        seen.put_nowait(order)

    async with app:
        await app.start()
        await app.publish(Order(number=1, article="pen"), f"{PREFIX}-orders")
        same(await soon(seen), Order(number=1, article="pen"))


async def reply() -> None:
    app, seen = broker(), asyncio.Queue[str]()

    @app.subscriber(f"{PREFIX}-first")
    @app.publisher(f"{PREFIX}-second")
    async def shout(text: str) -> str:
        return text.upper()

    @app.subscriber(f"{PREFIX}-second")
    async def take(text: str) -> None:
        seen.put_nowait(text)

    async with app:
        await app.start()
        await app.publish("quiet", f"{PREFIX}-first")
        same(await soon(seen), "QUIET")


async def rpc() -> None:
    app = broker()

    @app.subscriber(f"{PREFIX}-double")
    async def double(number: int) -> int:
        return 2 * number

    async with app:
        await app.start()
        answer = await app.request(21, f"{PREFIX}-double", timeout=PATIENCE)
        same(await answer.decode(), 42)


async def topic_exchange() -> None:
    app, seen = broker(), asyncio.Queue[tuple[str, str]]()
    exchange = RabbitExchange(f"{PREFIX}-topic", type=ExchangeType.TOPIC, auto_delete=True)

    def listen(pattern: str, label: str) -> None:
        @app.subscriber(RabbitQueue(f"{PREFIX}-{label}", auto_delete=True, routing_key=pattern), exchange)
        async def take(text: str) -> None:
            seen.put_nowait((label, text))

    listen("*.error", "errors")
    listen("db.#", "database")
    async with app:
        await app.start()
        for key in ("db.error", "web.error", "db.slow.query", "web.info"):
            await app.publish(key, exchange=exchange, routing_key=key)
        found = sorted([await soon(seen) for _ in range(4)])
        expected = [("database", "db.error"), ("database", "db.slow.query")]
        same(found, [*expected, ("errors", "db.error"), ("errors", "web.error")])


async def headers_exchange() -> None:
    app, seen = broker(), asyncio.Queue[str]()
    exchange = RabbitExchange(f"{PREFIX}-headers", type=ExchangeType.HEADERS, auto_delete=True)
    bind = {"x-match": "all", "kind": "report", "level": 3}

    @app.subscriber(RabbitQueue(f"{PREFIX}-reports", auto_delete=True, bind_arguments=bind), exchange)
    async def take(text: str) -> None:
        seen.put_nowait(text)

    async with app:
        await app.start()
        for level in (2, 3):
            await app.publish(f"level {level}", exchange=exchange, headers={"kind": "report", "level": level})
        same(await soon(seen), "level 3")


async def nack_dead_letter() -> None:
    app, dead = broker(), asyncio.Queue[str]()
    arguments: Any = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": f"{PREFIX}-dead"}

    @app.subscriber(RabbitQueue(f"{PREFIX}-picky", arguments=arguments))
    async def refuse(text: str) -> None:
        raise RejectMessage

    @app.subscriber(f"{PREFIX}-dead")
    async def bury(text: str) -> None:
        dead.put_nowait(text)

    async with app:
        await app.start()
        await app.publish("unwanted", f"{PREFIX}-picky")
        same(await soon(dead), "unwanted")


async def quorum_queue() -> None:
    app, seen, tries = broker(), asyncio.Queue[str](), []
    queue = RabbitQueue(f"{PREFIX}-quorum", queue_type=QueueType.QUORUM, durable=True)

    @app.subscriber(queue)
    async def take(text: str) -> None:
        tries.append(text)
        if len(tries) < 3:
            raise NackMessage
        seen.put_nowait(text)

    async with app:
        await app.start()
        await app.publish("again", queue, persist=True)
        same((await soon(seen), len(tries)), ("again", 3))


async def broker_restart() -> None:
    app, seen = broker(), asyncio.Queue[str]()
    queue = RabbitQueue(f"{PREFIX}-restart", durable=True)

    @app.subscriber(queue)
    async def take(text: str) -> None:
        seen.put_nowait(text)

    async with app:
        await app.start()
        await app.publish("before", queue, persist=True)
        same(await soon(seen), "before")
        await ask("restart")

        async def published() -> bool:
            try:
                await app.publish("after", queue, persist=True, timeout=3)
            except Exception:  # whatever it is, it is tried again
                return False
            return True

        await eventually(published, "a publish after the restart")
        # The acknowledgement of the first may have died with the broker.
        while (text := await soon(seen)) != "after":
            same(text, "before")


if __name__ == "__main__":
    main(
        {
            "publish-subscribe": publish_subscribe,
            "reply": reply,
            "rpc": rpc,
            "topic-exchange": topic_exchange,
            "headers-exchange": headers_exchange,
            "nack-dead-letter": nack_dead_letter,
            "quorum-queue": quorum_queue,
            "broker-restart": broker_restart,
        }
    )
