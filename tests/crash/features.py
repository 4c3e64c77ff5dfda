"""More clients of a crash test: those that meet what queues and exchanges do beyond keeping messages.

Dead letters of every reason, deduplication by a queue and by an exchange, priorities, delays. Like the others they
write down what they were promised, and judge nothing; `death_problems` looks at what dead letters say.
"""

from __future__ import annotations

import asyncio
import random
from typing import Any, Final

from aio_pika import DeliveryMode, ExchangeType, Message
from aio_pika.abc import AbstractExchange

from tests.crash.ledger import Ledger, QueueLedger, body_of, ranked_publisher
from tests.crash.ledger import Message as Known
from tests.crash.load import (
    ARGUMENTS,
    CONFIRM,
    DEATHS,
    LIMITED,
    QUEUES,
    REJECTED,
    WINDOW_SIZE,
    Load,
    Worker,
)
from tests.crash.taking import Death

EXPIRING: Final = "expiring"
EXPIRING_DEAD: Final = "expiring.dead"
REASONS: Final = {REJECTED: "rejected", LIMITED: "maxlen", EXPIRING: "expired"}
ONCE: Final = "once"
UNIQUE, UNIQUE_QUEUES = "unique", ("unique.consumed", "unique.kept")
RANKED, PRIORITIES = "ranked", 4
LATER, DELAYED, DELAYS = "later", "delayed", (1, 20, 150)
# By when everything that was delayed is due.
LATEST: Final = 2 * max(DELAYS)
REMEMBERED: Final[dict[str, Any]] = {"x-message-deduplication": True, "x-cache-size": 50_000}
HEADER: Final = "x-deduplication-header"
REPEATED: Final = 0.3


class FeatureLoad(Load):
    """The load of `Load`, and the features. `token` tells the values of this round's messages from all others."""

    queues = (*QUEUES, EXPIRING, EXPIRING_DEAD, ONCE, *UNIQUE_QUEUES, RANKED, DELAYED)
    arguments: dict[str, dict[str, Any]] = {
        **ARGUMENTS,
        EXPIRING: {
            "x-message-ttl": 30,
            "x-dead-letter-exchange": "",
            "x-dead-letter-routing-key": EXPIRING_DEAD,
        },
        ONCE: REMEMBERED,
        RANKED: {"x-max-priority": PRIORITIES - 1},
    }

    def __init__(self, port: int, ledger: Ledger, source: random.Random, token: str) -> None:
        super().__init__(port, ledger, source)
        self.duplicates = 0
        self._token = token
        ledger.deaths = [*DEATHS, (EXPIRING, EXPIRING_DEAD)]
        ledger.ranked = [RANKED]

    async def declare(self) -> None:
        await super().declare()
        channel = await (await self._connect()).channel()
        unique = await channel.declare_exchange(
            UNIQUE, ExchangeType.FANOUT, durable=True, arguments=REMEMBERED
        )
        later = await channel.declare_exchange(
            LATER, ExchangeType.X_DELAYED_MESSAGE, durable=True, arguments={"x-delayed-type": "fanout"}
        )
        for name in UNIQUE_QUEUES:
            await (await channel.get_queue(name)).bind(unique)
        await (await channel.get_queue(DELAYED)).bind(later)

    def _workers(self) -> list[Worker]:
        return [
            *super()._workers(),
            lambda: self._publish_to_die(EXPIRING),
            lambda: self._publish_again_and_again("", (ONCE,)),
            lambda: self._publish_again_and_again(UNIQUE, UNIQUE_QUEUES),
            self._publish_ranked,
            self._publish_delayed,
            lambda: self._consume(ONCE),
            lambda: self._consume(UNIQUE_QUEUES[0]),
            lambda: self._consume(RANKED),
            lambda: self._consume(DELAYED),
        ]

    async def _exchange(self, name: str) -> AbstractExchange:
        channel = await (await self._connect()).channel()
        return await channel.get_exchange(name) if name else channel.default_exchange

    # -- deduplication

    async def _publish_again_and_again(self, exchange: str, names: tuple[str, ...]) -> None:
        """Each message once, and some of the last ones again, before and after they were confirmed."""
        source = self._source()
        target = await self._exchange(exchange)
        queues = [self._ledger.queues[name] for name in names]
        while True:
            async with asyncio.TaskGroup() as window:
                for _ in range(WINDOW_SIZE // 4):
                    messages = [queue.send("again") for queue in queues]
                    window.create_task(self._publish_valued(target, queues, messages))
                    if source.random() < REPEATED:
                        number = max(0, messages[0][1] - source.randrange(WINDOW_SIZE))
                        window.create_task(
                            self._publish_valued(target, queues, [("again", number)] * len(queues))
                        )

    async def _publish_valued(
        self, exchange: AbstractExchange, queues: list[QueueLedger], messages: list[Known]
    ) -> None:
        key = queues[0].name if not exchange.name else ""
        message = Message(
            body_of(messages[0], 50),
            delivery_mode=DeliveryMode.PERSISTENT,
            headers={HEADER: f"{self._token} {messages[0][1]}"},
        )
        await exchange.publish(message, key)
        for queue, known in zip(queues, messages, strict=True):
            self.duplicates += known in queue.confirmed
            queue.confirmed.add(known)
        self.on_promise(CONFIRM)

    async def repeat(self) -> None:
        """Publish again all that was ever published with a value, as one does who is not sure of it.

        Afterwards all of it is confirmed, and there exactly once.
        """
        for exchange, names in (("", (ONCE,)), (UNIQUE, UNIQUE_QUEUES)):
            target = await self._exchange(exchange)
            queues = [self._ledger.queues[name] for name in names]
            count = queues[0].sent["again"]
            for start in range(0, count, WINDOW_SIZE):
                async with asyncio.TaskGroup() as window:
                    for number in range(start, min(count, start + WINDOW_SIZE)):
                        messages = [("again", number)] * len(queues)
                        window.create_task(self._publish_valued(target, queues, messages))

    # -- order

    async def _publish_ranked(self) -> None:
        source = self._source()
        exchange = await self._exchange("")
        queue = self._ledger.queues[RANKED]

        async def publish(priority: int) -> None:
            known = queue.send(ranked_publisher("ranked", priority))
            message = Message(body_of(known, 100), delivery_mode=DeliveryMode.PERSISTENT, priority=priority)
            await exchange.publish(message, RANKED)
            queue.confirmed.add(known)
            self.on_promise(CONFIRM)

        while True:
            async with asyncio.TaskGroup() as window:
                for _ in range(WINDOW_SIZE // 4):
                    window.create_task(publish(source.randrange(PRIORITIES)))

    async def _publish_delayed(self) -> None:
        """Each publisher's messages are delayed equally, so they come in the order in which they were published."""
        source = self._source()
        exchange = await self._exchange(LATER)
        queue = self._ledger.queues[DELAYED]

        async def publish(delay: int) -> None:
            known = queue.send(f"delayed-{delay}")
            message = Message(
                body_of(known, 100), delivery_mode=DeliveryMode.PERSISTENT, headers={"x-delay": delay}
            )
            await exchange.publish(message, "")
            queue.confirmed.add(known)
            self.on_promise(CONFIRM)

        while True:
            async with asyncio.TaskGroup() as window:
                for _ in range(WINDOW_SIZE // 4):
                    window.create_task(publish(source.choice(DELAYS)))


def death_problems(deaths: dict[str, set[Death]]) -> list[str]:
    """Dead letters that do not say what they died of, once, or that say it without having died."""
    dead = {
        target: Death(source, REASONS[source], 1, 1)
        for source, target in (*DEATHS, (EXPIRING, EXPIRING_DEAD))
    }
    return [
        f"{name}: a message says it died like this: {death}"
        for name, found in deaths.items()
        for death in sorted(found)
        if death != dead.get(name)
    ]
