"""What a conversation is: a name and a list of steps, written down with the words of the protocol.

A step says one thing on one channel of one connection; both are opened when they are first used, and a channel
that the broker has closed is opened again, so that any list of steps can be played and any part of it left out.
`~` in a text stands for the conversation's own prefix: names that begin with it are met by nobody else.
Nothing here sends anything.
"""

from __future__ import annotations

from typing import Any, NamedTuple


class Step(NamedTuple):
    """`op` is one of player.OPERATIONS; `link` and `channel` number the connection and the channel."""

    op: str
    link: int
    channel: int
    arguments: dict[str, Any]

    def __str__(self) -> str:
        said = ", ".join(f"{key}={value!r}" for key, value in self.arguments.items())
        return f"{self.link}.{self.channel} {self.op}({said})"


class Voice:
    """One channel of one connection, and the steps that can be said on it."""

    def __init__(self, steps: list[Step], link: int, channel: int) -> None:
        self.steps = steps
        self.link = link
        self.channel = channel

    def step(self, op: str, **arguments: Any) -> None:
        self.steps.append(Step(op, self.link, self.channel, arguments))

    def send(self, method: str, **arguments: Any) -> None:
        """A method, and whatever comes of it."""
        self.step("method", name=method, **arguments)

    def blurt(self, method: str, **arguments: Any) -> None:
        """A method that opens nothing first and is not waited for: what it does is met by a later step."""
        self.step("blurt", name=method, **arguments)

    def declare(self, queue: str = "~q", /, *, args: Any = None, **flags: Any) -> None:
        self.send("queue.declare", queue=queue, arguments=args or {}, **flags)

    def exchange(self, exchange: str = "~x", kind: str = "direct", *, args: Any = None, **flags: Any) -> None:
        self.send("exchange.declare", exchange=exchange, exchange_type=kind, arguments=args or {}, **flags)

    def bind(self, queue: str, exchange: str, key: str = "", args: Any = None, **flags: Any) -> None:
        self.send(
            "queue.bind", queue=queue, exchange=exchange, routing_key=key, arguments=args or {}, **flags
        )

    def publish(
        self,
        key: str = "",
        body: str | bytes = "m",
        *,
        exchange: str = "",
        mandatory: bool = False,
        immediate: bool = False,
        **properties: Any,
    ) -> None:
        self.step(
            "publish",
            exchange=exchange,
            routing_key=key,
            mandatory=mandatory,
            immediate=immediate,
            body=body,
            properties=properties,
        )

    def consume(self, queue: str = "~q", tag: str = "c", *, args: Any = None, **flags: Any) -> None:
        self.send("basic.consume", queue=queue, consumer_tag=tag, arguments=args or {}, **flags)

    def cancel(self, tag: str = "c", **flags: Any) -> None:
        self.send("basic.cancel", consumer_tag=tag, **flags)

    def get(self, queue: str = "~q", *, no_ack: bool = False) -> None:
        self.send("basic.get", queue=queue, no_ack=no_ack)

    def ack(self, tag: int | str, *, multiple: bool = False) -> None:
        """The tag may be the "oldest", "middle" or "newest" of those to be settled.

        Nothing is said if there is none.
        """
        self.send("basic.ack", delivery_tag=tag, multiple=multiple)

    def nack(self, tag: int | str, *, multiple: bool = False, requeue: bool = False) -> None:
        self.send("basic.nack", delivery_tag=tag, multiple=multiple, requeue=requeue)

    def reject(self, tag: int | str, *, requeue: bool = False) -> None:
        self.send("basic.reject", delivery_tag=tag, requeue=requeue)

    def qos(self, count: int, *, shared: bool = False) -> None:
        self.send("basic.qos", prefetch_count=count, global_=shared)

    def close_channel(self) -> None:
        self.send("channel.close", reply_code=200, reply_text="bye")

    def hang_up(self, queue: str = "", messages: int = 0, consumers: int | None = None) -> None:
        """connection.close, as the protocol asks; then wait until the queue is as said."""
        self.step("hang_up", queue=queue, messages=messages, consumers=consumers)

    def drop(self, queue: str = "", messages: int = 0, consumers: int | None = None) -> None:
        """The socket is closed without a word; then wait until the queue is as said."""
        self.step("drop", queue=queue, messages=messages, consumers=consumers)

    def connect(self, **options: Any) -> None:
        """The handshake with something said otherwise; see player.Handshake."""
        self.step("connect", **options)

    def dial(self) -> None:
        """A socket on which nothing has been said."""
        self.step("dial")

    def octets(self, data: bytes, *, settle: bool = False) -> None:
        self.step("octets", data=data, settle=settle)

    def frame(self, kind: int, payload: bytes, *, channel: int | None = None, settle: bool = False) -> None:
        self.step(
            "frame",
            kind=kind,
            payload=payload,
            on=self.channel if channel is None else channel,
            settle=settle,
        )

    def hear(self, count: int = 1) -> None:
        """Wait for so many frames, or for the end of the connection."""
        self.step("hear", count=count)

    def until(self, queue: str, messages: int, consumers: int | None = None) -> None:
        """Wait until the queue has so many ready messages (and consumers)."""
        self.step("until", queue=queue, messages=messages, consumers=consumers)

    def gone(self, queue: str) -> None:
        """Wait until there is no such queue."""
        self.step("gone", queue=queue)

    def drain(self, queue: str = "~q") -> None:
        """basic.get, acknowledged at once, until the queue is empty."""
        self.step("drain", queue=queue)

    def settle(self) -> None:
        """Nothing is said; what is on its way is waited for."""
        self.step("settle")

    def pause(self, milliseconds: int) -> None:
        """Time passes, for what has to expire."""
        self.step("pause", milliseconds=milliseconds)


class Conversation(Voice):
    """A named list of steps; itself the voice of channel 1 of connection 1.

    `watched`: whether its queues are looked at after each step, so that what they do has been done; a look
    renews a queue's lease of life, so conversations about that do without.
    """

    def __init__(self, name: str, *, watched: bool = True) -> None:
        super().__init__([], 1, 1)
        self.name = name
        self.watched = watched

    def on(self, link: int = 1, channel: int = 1) -> Voice:
        return Voice(self.steps, link, channel)

    def __repr__(self) -> str:
        return "\n".join([self.name, *(f"  {step}" for step in self.steps)])
