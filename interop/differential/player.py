"""Plays a conversation with a broker, and writes down what the broker said at each step.

After each step it is made certain that all which the step caused has come, by round trips and never by waiting:
on the channel of the step, then at the queues, which RabbitMQ runs beside the channels, then on every open
channel. What only time brings is waited for by name (`until`, `gone`). A broker that owes a reply for longer
than link.DEADLINE has said "nothing", and that is written down as well. The player judges nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final, NamedTuple

from . import codec
from .link import CAPABILITIES, DEADLINE, PROTOCOL_HEADER, Heard, Link, dial
from .normal import Normal, Row
from .script import Conversation, Step

LOOK_SECONDS: Final = 0.004
UNTIL_SECONDS: Final = 6.0
PLACE: Final = b"@@@@@@@"  # the prefix, in octets whose length has been counted
REPLY_TO: Final = "amq.rabbitmq.reply-to"
OBSERVER: Final = 99  # a connection of the player's own


class Target(NamedTuple):
    """A broker to talk to. `patient`: its queues live beside its channels and have to be asked, too."""

    name: str
    port: int
    patient: bool


class Player:
    """Holds one conversation; the rows of each step are what was heard, under the rules of normal.py."""

    def __init__(self, target: Target, conversation: Conversation, prefix: str) -> None:
        self.target = target
        self.conversation = conversation
        self.prefix = prefix
        self.normal = Normal(prefix)
        self.links: dict[int, Link] = {}
        self.observer: Link | None = None
        self.queues: dict[str, None] = {}
        self.exchanges: dict[str, None] = {}
        self.remarks: list[Row] = []
        self.reply_to = f"{REPLY_TO}.none"
        self.unacked: dict[tuple[int, int], list[int]] = {}
        self.without_acks: set[str] = set()
        self.getting_without_acks = False

    async def play(self) -> list[list[Row]]:
        """One list of rows for each step."""
        steps: list[list[Row]] = []
        try:
            for step in self.conversation.steps:
                self.remarks = []
                await OPERATIONS[step.op](self, step, self.own(step.arguments))
                steps.append(self.normal.rows(self.collect()))
        finally:
            await self.clean_up()
        return steps

    def own(self, value: Any) -> Any:
        """`value` with the conversation's prefix for each `~` in it, and the last reply address for `$reply-to`."""
        if isinstance(value, str):
            return value.replace("~", self.prefix).replace("$reply-to", self.reply_to)
        if isinstance(value, bytes):
            return value.replace(b"~", self.prefix.encode()).replace(PLACE, self.prefix.encode())
        if isinstance(value, codec.Typed):
            return codec.Typed(value.kind, self.own(value.value))
        if isinstance(value, dict):
            return {self.own(key): self.own(item) for key, item in value.items()}
        if isinstance(value, (list, tuple)):
            return type(value)(self.own(item) for item in value)
        return value

    def remark(self, step: Step, name: str, *values: Any) -> None:
        self.remarks.append([f"{step.link}.{step.channel}", name, list(values)])

    def collect(self) -> list[Row]:
        rows = list(self.remarks)
        for number in sorted(self.links):
            link = self.links[number]
            heard = sorted(link.take(), key=lambda one: one.channel)  # stable: a channel's own order is kept
            if any(one.name == "connection.close" for one in heard):
                heard = [one for one in heard if one.name != "basic.deliver"]
            for one in heard:
                self.learn(one, self.unacked.setdefault((number, one.channel), []))
            rows += [one.row(number) for one in heard]
            rows += [
                confirms.row(f"{number}.{channel}")
                for channel, confirms in sorted(link.confirms.items())
                if confirms.fresh
            ]
            link.confirms = {
                channel: confirms for channel, confirms in link.confirms.items() if not confirms.given_up
            }
            if link.closed:
                rows.append([f"{number}.0", "closed", []])
                del self.links[number]
        return rows

    def learn(self, heard: Heard, unacked: list[int]) -> None:
        """What later steps need to know: queues to look at, reply addresses, tags to be settled."""
        if heard.name == "basic.deliver" and heard.values[0] not in self.without_acks:
            unacked.append(heard.values[1])
        elif heard.name == "basic.get-ok" and not self.getting_without_acks:
            unacked.append(heard.values[0])
        elif heard.name in ("channel.close", "channel.close-ok"):
            unacked.clear()
        if heard.name == "queue.declare-ok" and not heard.values[0].startswith(REPLY_TO):
            self.queues[heard.values[0]] = None
        for name, value in heard.properties or []:
            if name == "reply_to" and value.startswith(f"{REPLY_TO}."):
                self.reply_to = value

    # connections and channels

    async def link(self, number: int) -> Link:
        """That connection, opened as guest if it is not there."""
        if number not in self.links or self.links[number].closed:
            self.links[number] = await dial(self.target.port)
            await self.shake_hands(self.links[number])
            self.links[number].take()
        return self.links[number]

    async def open_channel(self, step: Step) -> Link:
        link = await self.link(step.link)
        if step.channel and step.channel not in link.channels and link.ready:
            link.say(step.channel, "channel.open")
            link.ask(step.channel)
            await self.nothing_owed(step, link)
            link.heard = [one for one in link.heard if one.name != "channel.open-ok"]
        return link

    async def nothing_owed(self, step: Step, link: Link) -> None:
        if not await link.settled():
            self.remark(step, "nothing", f"for {DEADLINE:.0f} s")
            link.drop()
            await link.ended()

    async def shake_hands(self, link: Link, **options: Any) -> None:
        """The handshake, as far as the broker goes with it. Options: header, mechanism, response, locale,
        capabilities, properties, tune (what is answered instead of what was offered), virtual_host.
        """
        link.write(options.get("header", PROTOCOL_HEADER))
        start = await link.next("connection.start")
        if start is None:
            return
        capabilities = options.get("capabilities", CAPABILITIES)
        link.say(
            0,
            "connection.start-ok",
            client_properties={"product": "conversations", "capabilities": capabilities}
            | options.get("properties", {}),
            mechanism=options.get("mechanism", "PLAIN"),
            response=options.get("response", "\0guest\0guest"),
            locale=options.get("locale", "en_US"),
        )
        tune = await link.next("connection.tune")
        if tune is None:
            return
        fields = ("channel_max", "frame_max", "heartbeat")
        answer = dict(zip(fields, tune.values, strict=True)) | {"heartbeat": 0} | options.get("tune", {})
        link.frame_max = answer["frame_max"] or 131072
        link.say(0, "connection.tune-ok", **answer)
        link.say(0, "connection.open", virtual_host=options.get("virtual_host", "/"))
        await link.next("connection.open-ok")

    # what has to have happened before a step is over

    async def settle(self, step: Step, link: Link, *, ask: bool = True) -> None:
        if ask and step.channel in link.channels:
            link.ask(step.channel)
        await self.nothing_owed(step, link)
        if self.target.patient and self.conversation.watched:
            for _ in range(2):
                for queue in list(self.queues):
                    await self.look(queue)
        everybody = list(self.links.values())
        for one in everybody:
            for channel in sorted(one.channels):
                if self.target.patient or one is not link:
                    one.ask(channel)
        for one in everybody:
            await self.nothing_owed(step, one)
            await self.confirmed(step, one)

    async def confirmed(self, step: Step, link: Link) -> None:
        deadline = asyncio.get_running_loop().time() + DEADLINE
        for channel, confirms in link.confirms.items():
            while confirms.owed and not link.closed:
                if not await link.wait(deadline):
                    confirms.given_up = True
                    self.remark(step, "unconfirmed", channel, confirms.published - len(confirms.fates))

    async def look(self, queue: str) -> str:
        """Whether the queue is "there", "gone" or "locked"; it has then seen what was sent before."""
        observer = self.observer
        if observer is None or observer.closed:
            observer = self.observer = await dial(self.target.port)
            await self.shake_hands(observer)
        if 1 not in observer.channels:
            observer.say(1, "channel.open")
        observer.take()
        observer.say(1, "queue.declare", queue=queue, passive=True)
        observer.ask(1)
        await observer.settled()
        refusals = [one.values[0] for one in observer.take() if one.name == "channel.close"]
        if 404 in refusals:
            self.queues.pop(queue, None)
        return {404: "gone", 405: "locked"}.get(refusals[0], "odd") if refusals else "there"

    async def clean_up(self) -> None:
        for link in self.links.values():
            link.drop()
            await link.ended()
        if self.queues or self.exchanges:
            await self.look("amq.nothing")
            observer = self.observer
            assert observer is not None
            for method, names in (("queue", self.queues), ("exchange", self.exchanges)):
                for name in names:
                    if 1 not in observer.channels:
                        observer.say(1, "channel.open")
                    observer.say(1, f"{method}.delete", **{method: name})
                    observer.ask(1)
                    await observer.settled()
        if self.observer is not None:
            self.observer.drop()
            await self.observer.ended()

    # what a step may be

    async def method(self, step: Step, arguments: dict[str, Any]) -> None:
        name = arguments.pop("name")
        if name in ("basic.get", "basic.consume"):
            self.getting_without_acks = bool(arguments.get("no_ack"))
            if self.getting_without_acks:
                self.without_acks.add(arguments.get("consumer_tag", ""))
        elif isinstance(arguments.get("delivery_tag"), str):
            tag = self.chosen_tag(step, arguments["delivery_tag"], multiple=arguments.get("multiple", False))
            if tag is None:
                return
            arguments["delivery_tag"] = tag
        opening = step._replace(channel=step.channel or 1)
        link = await (self.link(step.link) if name == "channel.open" else self.open_channel(opening))
        if name == "exchange.declare":
            self.exchanges[arguments.get("exchange", "")] = None
        link.say(step.channel, name, **arguments)
        if name in ("channel.close", "tx.commit") and step.channel in link.channels:
            link.owing.add(step.channel)  # RabbitMQ takes no word between tx.commit and its -ok
        elif name == "channel.open":
            link.ask(step.channel)
        elif name == "confirm.select" and arguments.get("nowait"):
            link.select_confirms(step.channel)
        await self.settle(opening, link, ask=not link.owing and name != "channel.open")

    def chosen_tag(self, step: Step, which: str, *, multiple: bool) -> int | None:
        """The oldest, newest or middle one of the tags that are to be settled; None if there are none."""
        unacked = self.unacked.get((step.link, step.channel), [])
        if not unacked:
            return None
        at = {"oldest": 0, "newest": len(unacked) - 1}.get(which, len(unacked) // 2)
        tag = unacked[at]
        unacked[: at + 1] = [] if multiple else unacked[:at]
        return tag

    async def blurt(self, step: Step, arguments: dict[str, Any]) -> None:
        link = await self.link(step.link)
        link.say(step.channel, arguments.pop("name"), **arguments)

    async def publish(self, step: Step, arguments: dict[str, Any]) -> None:
        link = await self.open_channel(step)
        body, properties = codec.octets(arguments.pop("body")), arguments.pop("properties")
        if step.channel in link.confirms:
            link.confirms[step.channel].published += 1
        link.say(step.channel, "basic.publish", **arguments)
        link.write(codec.encode_frame(codec.HEADER, step.channel, codec.encode_header(len(body), properties)))
        size = link.frame_max - 8
        for at in range(0, len(body), size):
            link.write(codec.encode_frame(codec.BODY, step.channel, body[at : at + size]))
        await self.settle(step, link)

    async def octets(self, step: Step, arguments: dict[str, Any]) -> None:
        link = self.links.get(step.link) or await self.link(step.link)
        link.write(arguments["data"])
        if arguments["settle"]:
            await self.settle(step, link)

    async def frame(self, step: Step, arguments: dict[str, Any]) -> None:
        link = await self.open_channel(step)
        link.write(codec.encode_frame(arguments["kind"], arguments["on"], arguments["payload"]))
        if arguments["settle"]:
            await self.settle(step, link)

    async def connect(self, step: Step, arguments: dict[str, Any]) -> None:
        link = self.links[step.link] = await dial(self.target.port)
        await self.shake_hands(link, **arguments)
        await self.nothing_owed(step, link)

    async def dial(self, step: Step, _arguments: dict[str, Any]) -> None:
        self.links[step.link] = await dial(self.target.port)

    async def hear(self, step: Step, arguments: dict[str, Any]) -> None:
        link = self.links[step.link]
        deadline = asyncio.get_running_loop().time() + DEADLINE
        while len(link.heard) < arguments["count"] and not link.closed:
            if not await link.wait(deadline):
                self.remark(step, "nothing", f"for {DEADLINE:.0f} s")
                break
        if link.closing:
            await self.nothing_owed(step, link)

    async def hang_up(self, step: Step, arguments: dict[str, Any]) -> None:
        link = await self.link(step.link)
        link.say(0, "connection.close", reply_code=200, reply_text="bye")
        link.owing.add(0)
        await self.nothing_owed(step, link)
        link.drop()  # the last word was the broker's, so the socket is ours to close
        await link.ended()
        await self.aftermath(step, arguments)

    async def drop(self, step: Step, arguments: dict[str, Any]) -> None:
        link = await self.link(step.link)
        link.drop()
        await link.ended()
        await self.aftermath(step, arguments)

    async def aftermath(self, step: Step, arguments: dict[str, Any]) -> None:
        """What the end of a connection brings to the others belongs to the same step."""
        if arguments.get("queue"):
            observer = Step("until", OBSERVER, 1, {})
            await self.until(observer, arguments)
            self.links[OBSERVER].drop()
            await self.links[OBSERVER].ended()
            del self.links[OBSERVER]

    async def until(self, step: Step, arguments: dict[str, Any]) -> None:
        link = await self.open_channel(step)
        loop = asyncio.get_running_loop()
        deadline = loop.time() + UNTIL_SECONDS
        while True:
            found = await self.counts(step, link, arguments["queue"])
            reached = found[:1] == [arguments["messages"]]
            if arguments["consumers"] is None:
                found = found[:1]
            else:
                reached = reached and found[1:] == [arguments["consumers"]]
            if reached or loop.time() > deadline or len(found) == 0:
                break
            await asyncio.sleep(LOOK_SECONDS)
        self.remark(step, "until", arguments["queue"], *found)
        await self.settle(step, link)

    async def counts(self, step: Step, link: Link, queue: str) -> list[int]:
        """[messages, consumers] of a queue that this channel may see; [] if it may not, or there is none."""
        if step.channel not in link.channels:
            return []
        before = len(link.heard)
        link.say(step.channel, "queue.declare", queue=queue, passive=True)
        link.ask(step.channel)
        await self.nothing_owed(step, link)
        for at in range(before, len(link.heard)):
            if link.heard[at].name == "queue.declare-ok":
                return list(link.heard.pop(at).values[1:])
        return []

    async def gone(self, step: Step, arguments: dict[str, Any]) -> None:
        loop = asyncio.get_running_loop()
        deadline = loop.time() + UNTIL_SECONDS
        state = await self.look(arguments["queue"])
        for _ in range(1000):
            if state == "gone" or loop.time() > deadline:
                break
            await asyncio.sleep(LOOK_SECONDS)
            state = await self.look(arguments["queue"])
        self.remark(step, "queue", arguments["queue"], state)
        if step.link in self.links:
            await self.settle(step, self.links[step.link])

    async def drain(self, step: Step, arguments: dict[str, Any]) -> None:
        link = await self.open_channel(step)
        while step.channel in link.channels:
            link.say(step.channel, "basic.get", queue=arguments["queue"], no_ack=True)
            link.ask(step.channel)
            await self.nothing_owed(step, link)
            if not link.heard or link.heard[-1].name != "basic.get-ok":
                break
        link.heard = [one for one in link.heard if one.name != "basic.get-empty"]
        self.getting_without_acks = True
        await self.settle(step, link)

    async def settled(self, step: Step, _arguments: dict[str, Any]) -> None:
        await self.settle(step, await self.open_channel(step))

    async def pause(self, _step: Step, arguments: dict[str, Any]) -> None:
        await asyncio.sleep(arguments["milliseconds"] / 1000)


Operation = Callable[[Player, Step, dict[str, Any]], Awaitable[None]]
OPERATIONS: Final[dict[str, Operation]] = {
    "method": Player.method,
    "blurt": Player.blurt,
    "publish": Player.publish,
    "octets": Player.octets,
    "frame": Player.frame,
    "connect": Player.connect,
    "dial": Player.dial,
    "hear": Player.hear,
    "hang_up": Player.hang_up,
    "drop": Player.drop,
    "until": Player.until,
    "gone": Player.gone,
    "drain": Player.drain,
    "settle": Player.settled,
    "pause": Player.pause,
}
