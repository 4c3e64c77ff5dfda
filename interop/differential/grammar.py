"""Conversations made up from a seed: the same seed is always the same conversation.

What is made up stays within what both brokers answer in one way: a channel has one consumer at most and one queue
(which of two queues is the faster to deliver is anybody's guess), transactions have a channel without consumers,
nothing depends on how much time passes, and differences that are known are left to the conversations that show them.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any, Final

from .script import Conversation, Voice

QUEUES: Final = ("~q0", "~q1", "~q2")
EXCHANGES: Final = {"~x0": "direct", "~x1": "topic", "~x2": "fanout", "~x3": "headers"}
KEYS: Final = ("a", "a.b", "b", "")
PATTERNS: Final = ("a", "a.*", "#", "*.b", "")
LONGEST: Final = 60
CONSUMING: Final = 1  # the channel that consumes; the others get
TX_CHANNEL: Final = 3

ARGUMENTS: Final[list[dict[str, Any]]] = [
    {},
    {},
    {"x-max-length": 3},
    {"x-max-length": 2, "x-overflow": "reject-publish"},
    {"x-max-length": 2, "x-overflow": "reject-publish-dlx"},
    {"x-max-length-bytes": 12},
    {"x-max-priority": 4},
    {"x-max-priority": 2, "x-max-length": 3},
    {"x-message-ttl": 600000},
]


class Grammar:
    """One conversation in the making."""

    def __init__(self, seed: int, name: str) -> None:
        self.random = random.Random(seed)
        self.conversation = Conversation(name)
        self.arguments: dict[str, dict[str, Any]] = {}
        self.exchanges = self.random.sample(sorted(EXCHANGES), 3)
        self.bodies = 0
        self.tags: dict[int, int] = {}  # the number of each connection's last consumer
        self.topology()
        for _ in range(self.random.randint(8, LONGEST)):
            self.sentence()
        self.farewell()

    def pick(self, choices: Any) -> Any:
        return self.random.choice(list(choices))

    def chance(self, one_in: int) -> bool:
        return self.random.randrange(one_in) == 0

    def topology(self) -> None:
        for at, queue in enumerate(QUEUES):
            arguments = dict(self.pick(ARGUMENTS))
            if at and self.chance(2):
                # dead letters go to lower numbers, so that none goes round
                arguments["x-dead-letter-exchange"] = ""
                arguments["x-dead-letter-routing-key"] = QUEUES[at - 1]
            self.arguments[queue] = arguments
            self.declare(self.conversation, queue)
        for exchange in self.exchanges:
            self.conversation.exchange(exchange, EXCHANGES[exchange])
            self.bind(self.conversation)

    def declare(self, voice: Voice, queue: str) -> None:
        voice.declare(queue, args=self.arguments[queue], durable=queue == QUEUES[0])

    def voice(self) -> Voice:
        return self.conversation.on(self.pick((1, 1, 2)), self.pick((1, 2)))

    def queue_of(self, voice: Voice) -> str:
        """The one queue that this channel has its messages from."""
        return QUEUES[(voice.link + voice.channel) % len(QUEUES)]

    def sentence(self) -> None:
        sayings: list[tuple[int, Callable[[Voice], None]]] = [
            (22, self.publish),
            (6, self.get),
            (4, self.consume),
            (10, self.settle),
            (3, self.bind),
            (1, self.unbind),
            (1, self.qos),
            (1, self.cancel),
            (1, self.topology_again),
            (1, self.remove),
            (1, lambda voice: voice.send("confirm.select")),
            (1, lambda voice: voice.send("basic.recover", requeue=True)),
            (1, lambda voice: voice.close_channel()),
            (2, self.transaction),
        ]
        said = self.random.choices([say for _, say in sayings], [weight for weight, _ in sayings])[0]
        said(self.voice())

    def publish(self, voice: Voice) -> None:
        self.bodies += 1
        properties: dict[str, Any] = {}
        if self.chance(3):
            properties["priority"] = self.random.randrange(6)
        if self.chance(4):
            properties["headers"] = {"n": self.random.randrange(3), "k": self.pick(KEYS)}
        if self.chance(4):
            properties["delivery_mode"] = self.pick((1, 2))
        if self.chance(8):
            properties["expiration"] = "600000"
        if self.chance(10):
            properties.setdefault("headers", {})["CC"] = [self.pick(QUEUES)]
        exchange = "" if self.chance(2) else self.exchange()
        voice.publish(
            self.pick(QUEUES) if exchange == "" else self.pick(KEYS),
            f"m{self.bodies}",
            exchange=exchange,
            mandatory=self.chance(2),
            **properties,
        )

    def get(self, voice: Voice) -> None:
        if voice.channel != CONSUMING:
            voice.get(self.queue_of(voice), no_ack=self.chance(3))

    def consume(self, voice: Voice) -> None:
        voice = self.conversation.on(voice.link, CONSUMING)
        self.cancel(voice)
        voice.ack(0, multiple=True)
        self.tags[voice.link] = self.tags.get(voice.link, 0) + 1
        arguments = {"x-priority": self.random.randrange(3)} if self.chance(4) else {}
        voice.consume(
            self.queue_of(voice),
            self.tag(voice),
            no_ack=self.chance(4),
            exclusive=self.chance(12),
            args=arguments,
        )

    def settle(self, voice: Voice) -> None:
        tag, multiple = self.pick(("oldest", "oldest", "middle", "newest")), self.chance(3)
        if voice.channel == TX_CHANNEL or self.chance(15):
            tag = self.random.randint(0, 3)
        how = self.random.randrange(4)
        if how == 0:
            voice.reject(tag, requeue=self.chance(2))
        elif how == 1:
            voice.nack(tag, multiple=multiple, requeue=self.chance(2))
        else:
            voice.ack(tag, multiple=multiple)

    def exchange(self) -> str:
        """Mostly one that has been declared."""
        return self.pick(EXCHANGES if self.chance(20) else self.exchanges)  # type: ignore[no-any-return]

    def bind(self, voice: Voice) -> None:
        exchange = self.exchange()
        arguments = {"x-match": self.pick(("all", "any")), "n": 1} if EXCHANGES[exchange] == "headers" else {}
        voice.bind(self.pick(QUEUES), exchange, self.pick(PATTERNS), arguments)

    def unbind(self, voice: Voice) -> None:
        voice.send(
            "queue.unbind", queue=self.pick(QUEUES), exchange=self.exchange(), routing_key=self.pick(PATTERNS)
        )

    def qos(self, voice: Voice) -> None:
        voice.qos(self.random.randrange(4))

    def cancel(self, voice: Voice) -> None:
        voice.cancel(self.tag(voice))

    def tag(self, voice: Voice) -> str:
        return f"c{voice.link}.{self.tags.get(voice.link, 0)}"

    def topology_again(self, voice: Voice) -> None:
        if self.chance(3):
            exchange = self.pick(EXCHANGES)
            voice.exchange(exchange, EXCHANGES[exchange])
        elif self.chance(2):
            voice.declare(self.pick(QUEUES), args=dict(self.pick(ARGUMENTS)))
        else:
            self.declare(voice, self.pick(QUEUES))

    def remove(self, voice: Voice) -> None:
        how = self.random.randrange(4)
        if how == 0:
            voice.send("queue.purge", queue=self.pick(QUEUES))
        elif how == 1:
            voice.send(
                "queue.delete", queue=self.pick(QUEUES), if_unused=self.chance(2), if_empty=self.chance(2)
            )
        elif how == 2:
            voice.send("exchange.delete", exchange=self.pick(EXCHANGES), if_unused=self.chance(2))
        else:
            voice.send("queue.declare", queue=self.pick(QUEUES), passive=True)

    def transaction(self, _voice: Voice) -> None:
        voice = self.conversation.on(1, TX_CHANNEL)
        say = self.pick((self.publish, self.publish, self.get, self.settle, None))
        if say is not None:
            say(voice)
        else:
            voice.send(self.pick(("tx.select", "tx.select", "tx.commit", "tx.rollback")))

    def farewell(self) -> None:
        for link in (1, 2):
            for channel in (1, 2, TX_CHANNEL):
                self.conversation.on(link, channel).close_channel()
        for queue in QUEUES:
            self.conversation.on(1, 4).drain(queue)


def made_up(seed: int) -> Conversation:
    return Grammar(seed, f"random/seed-{seed:04}").conversation
