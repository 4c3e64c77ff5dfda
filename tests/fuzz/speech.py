"""What one hostile client says next: it knows enough AMQP to get in and deep, and then does not behave.

A `Voice` is one connection as its own client sees it: which channels it has open, which deliveries it has not
settled, what it still has to say on each channel. `next` returns a piece of speech and what kind it is; `hear` tells
it what the broker answered. Nothing here knows whether there is a socket.
"""

from __future__ import annotations

from collections import deque

from tests.fuzz.phrases import (
    ARGUMENTS,
    BODY,
    CAPABILITIES,
    EVERY_METHOD,
    EVERYDAY,
    EXTREMES,
    FIELDS,
    FLAGS,
    HABITS,
    HEAD,
    HEADER,
    HEARTBEAT,
    LARGE_SIZES,
    LOGINS,
    MASKS,
    METHOD,
    MOST_TAGS,
    PROTOCOL_HEADER,
    SIZES,
    STRANGERS,
    WIDTHS,
    Fields,
    Speech,
    frame,
    method,
)
from tests.fuzz.values import (
    BINDING_ARGUMENTS,
    DECLARED,
    DURABLE,
    EXCHANGE_ARGUMENTS,
    HOSTS,
    KINDS,
    ODD_KINDS,
    ODD_TAGS,
    QUEUE_ARGUMENTS,
    QUEUES,
    TAGS,
    TEXTS,
    U16,
    U32,
    U64,
    USUAL,
    Values,
    long,
    short,
)


class ChannelView:
    """A channel as its client sees it. pending: what it has begun to say and not ended. tags: not settled yet."""

    __slots__ = ("consumers", "pending", "tags", "transactional")

    def __init__(self) -> None:
        self.pending: deque[Speech] = deque()
        self.tags: deque[int] = deque()
        self.transactional = False
        self.consumers: list[bytes] = [b"t0"]


class Voice:
    """phase: how far the handshake is said: 0 nothing, 4 all of it. frame_max: what it says it takes.

    finished: nothing it says is heard any more. careful: it makes no mistakes in the handshake.
    """

    def __init__(self, values: Values, *, careful: bool = False, wildness: float = 0.2) -> None:
        self.values = values
        self.wildness = wildness
        self.careful = careful or values.chance(0.9)
        self.phase = 0
        self.finished = False
        self.frame_max = 4096
        self.channel_max = 7
        self.channels: dict[int, ChannelView] = {}
        self.sizes = LARGE_SIZES if values.chance(0.08) else SIZES

    # -- what it hears

    def hear(self, channel: int, name: str, arguments: dict[str, object]) -> Speech | None:
        """A method came; returns what has to be said because of it, if anything."""
        if name == "connection.tune":
            self._tune(int(str(arguments["frame_max"])), int(str(arguments["channel_max"])))
        elif name == "channel.close":
            self.channels.pop(channel, None)
            if self.values.chance(0.95):
                return Speech("replies", method(channel, "channel.close-ok"))
        elif name == "channel.close-ok":
            self.channels.pop(channel, None)
        elif name == "connection.close":
            self.finished = self.values.chance(0.9)
            return Speech("replies", method(0, "connection.close-ok"))
        elif name == "connection.close-ok":
            self.finished = True
        elif channel in self.channels:
            self._note(self.channels[channel], name, arguments)
        return None

    def _note(self, view: ChannelView, name: str, arguments: dict[str, object]) -> None:
        """What it may refer to later on."""
        if name in ("basic.deliver", "basic.get-ok"):
            if len(view.tags) < MOST_TAGS:
                view.tags.append(int(str(arguments["delivery_tag"])))
        elif name == "basic.consume-ok":
            if len(view.consumers) < 8:
                tag = str(arguments["consumer_tag"]).encode("utf-8", "surrogateescape")
                view.consumers.append(tag)
        elif name == "tx.select-ok":
            view.transactional = True

    def _tune(self, frame_max: int, channel_max: int) -> None:
        """Take what the broker offers, or less. Who does not wait to hear it takes what every broker has to."""
        if self.phase > 2:
            return
        wanted = self.values.one((131072, 131072, 131072, 4096, 8192))
        self.frame_max = min(wanted, frame_max) if frame_max else wanted
        self.channel_max = channel_max or self.values.one((0, 2047))

    # -- what it says

    def next(self) -> Speech:
        if self.phase < 4:
            return self._greeting()
        values = self.values
        draw = values.random()
        if not self.channels or draw < 0.03:
            return self._open_channel()
        number = values.one(tuple(self.channels))
        view = self.channels[number]
        if view.pending and draw < 0.995:
            return self._meddled(view.pending.popleft())
        if draw < 0.42:
            self._publish(number, view)
            return self._meddled(view.pending.popleft())
        if view.transactional and draw < 0.5:
            return self.method(number, view, values.one(("tx.commit", "tx.commit", "tx.rollback")))
        if draw < 0.56 and view.tags:
            return self._meddled(self._settle(number, view))
        if draw < 0.56 + 0.43 * (1 - self.wildness):
            return self._meddled(self.method(number, view, values.one(EVERYDAY)))
        return self._mischief(number, view)

    def _greeting(self) -> Speech:
        """The next step of the handshake, right unless it is one of those who get it wrong."""
        values = self.values
        step = self.phase
        self.phase += 1
        wrong = not self.careful and values.chance(0.4)
        if step == 0:
            return (
                Speech("strangers", values.one(STRANGERS)) if wrong else Speech("handshakes", PROTOCOL_HEADER)
            )
        if step == 1:
            return self._login(wrong=wrong)
        if step == 2:
            limits = U16(self.channel_max) + U32(self.frame_max) + U16(0)
            if wrong:
                limits = b"".join(
                    (U16(values.below(65536)), U32(values.one(EXTREMES[:9])), U16(values.below(65536)))
                )
            return Speech("handshakes", method(0, "connection.tune-ok", limits))
        host = values.one(HOSTS) if wrong else b"/"
        return self._wrong_or_right(
            "handshakes", method(0, "connection.open", short(host) + b"\0\0"), wrong=wrong
        )

    def _login(self, *, wrong: bool) -> Speech:
        values = self.values
        mechanism, response = values.one(LOGINS)
        properties = long(b"\x0ccapabilitiesF" + long(CAPABILITIES)) if values.chance(0.8) else b"\0\0\0\0"
        if wrong:
            draw = values.below(4)
            if draw == 0:
                mechanism = values.one(
                    (b"PLAIN", b"AMQPLAIN", b"EXTERNAL", b"ANONYMOUS", b"", b"\xff", b"plain")
                )
            elif draw == 1:
                response = values.garbled(response)
            elif draw == 2:
                properties = values.odd_table()
            else:
                response = values.one(
                    (b"\0guest\0wrong", b"\0\0", b"", b"\0" * 50, b"\0guest\0guest\0x", b"x" * 3000)
                )
        octets = properties + short(mechanism) + long(response) + short(b"en_US")
        speech = Speech("logins" if wrong else "handshakes", method(0, "connection.start-ok", octets))
        return self._wrong_or_right(*speech, wrong=wrong and values.chance(0.2))

    def _wrong_or_right(self, kind: str, octets: bytes, *, wrong: bool) -> Speech:
        if wrong and self.values.chance(0.5):
            return Speech("garbled octets", self.values.garbled(octets))
        return Speech(kind, octets)

    def _open_channel(self) -> Speech:
        number = 1 + self.values.below(6)
        view = self.channels.get(number)
        if view is not None and self.values.chance(0.97):
            return (
                view.pending.popleft()
                if view.pending
                else self.method(number, view, self.values.one(EVERYDAY))
            )
        view = self.channels[number] = ChannelView()
        for name in self.values.one(HABITS):
            view.pending.append(self.method(number, view, name))
        return Speech("methods", method(number, "channel.open", b"\0"))

    def method(self, channel: int, view: ChannelView, name: str) -> Speech:
        index, fields = FIELDS[name]
        if name == "basic.consume" and self.values.random() < 0.08:
            # Direct replies, without acknowledgements.
            asked = b"\0\0" + short(b"amq.rabbitmq.reply-to") + b"\0\2" + b"\0\0\0\0"
            return Speech("methods", frame(METHOD, channel, index + asked))
        if name.endswith(".declare") and self.values.random() < 0.85:
            return Speech("methods", frame(METHOD, channel, index + self._declaration(name)))
        return Speech("methods", frame(METHOD, channel, index + self._arguments(name, fields, view)))

    def _declaration(self, name: str) -> bytes:
        """As everybody else declares it, but for the arguments."""
        values = self.values
        if name == "queue.declare":
            what = values.one(QUEUES)
            octets = b"\0\0" + short(what) + (b"\2" if what in DURABLE else b"\0")
            others = values.arguments(QUEUE_ARGUMENTS, 0.25)
        else:
            what = values.one(tuple(DECLARED))
            octets = b"\0\0" + short(what) + short(DECLARED[what]) + b"\2"
            others = values.arguments(EXCHANGE_ARGUMENTS, 0.15)
        return octets + long(USUAL.get(what, b"") + others[4:])

    def _arguments(self, name: str, fields: Fields, view: ChannelView) -> bytes:
        parts: list[bytes] = []
        bits = count = 0
        for field, kind in fields:
            if kind == "b":
                bits |= (self.values.random() < FLAGS.get(field, 0.1)) << count
                count += 1
                continue
            if count:
                parts.append(bytes((bits,)))
                bits = count = 0
            parts.append(self._argument(name, field, kind, view))
        if count:
            parts.append(bytes((bits,)))
        return b"".join(parts)

    def _argument(self, name: str, field: str, kind: str, view: ChannelView) -> bytes:  # noqa: PLR0911
        values = self.values
        if kind == "F":
            share = 0.1 if name == "basic.consume" else 0.5
            return values.arguments(ARGUMENTS.get(name, BINDING_ARGUMENTS), share)
        if kind == "s":
            if field == "queue":
                return short(values.queue())
            if field in ("exchange", "source", "destination"):
                return short(values.exchange())
            if field == "routing_key":
                return short(values.key() if name == "basic.publish" else values.pattern())
            if field == "type":
                return short(values.one(KINDS) if values.random() < 0.97 else values.one(ODD_KINDS))
            if field == "consumer_tag":
                if values.random() < 0.02:
                    return short(values.one(ODD_TAGS))
                return short(values.one(view.consumers if name == "basic.cancel" else TAGS))
            return short(values.one(TEXTS))
        if kind == "S":
            return long(values.one(TEXTS))
        if field == "delivery_tag":
            return U64(
                values.one(view.tags) if view.tags and values.random() < 0.95 else values.one(EXTREMES)
            )
        if field == "prefetch_count":
            return U16(values.one((0, 1, 2, 10, 65535)))
        return bytes(WIDTHS[kind])

    def _publish(self, channel: int, view: ChannelView) -> None:
        """A publish and its content, which it will say piece by piece."""
        values = self.values
        pending = view.pending
        address = short(b"" if values.random() < 0.3 else values.exchange()) + short(values.key())
        flags = (values.random() < 0.15) | (values.random() < 0.005) << 1
        pending.append(
            Speech("methods", method(channel, "basic.publish", b"\0\0" + address + bytes((flags,))))
        )
        size = values.one(self.sizes)
        if values.random() < 0.004:
            size = values.one((70_000, 300_000))
        header = b"\0\x3c\0\0" + U64(size) + values.properties()
        pending.append(Speech("content headers", frame(HEADER, channel, header)))
        body = (
            bytes(size)
            if values.random() < 0.5
            else (b"%d " % values.below(1 << 30) * (size // 2 + 1))[:size]
        )
        room = self.frame_max - 8
        if values.random() < 0.15 and size:
            room = max(1, min(room, values.one((1, 2, size // 3, size - 1, size // 2))), size // 50)
        for at in range(0, size, room):
            pending.append(Speech("bodies", frame(BODY, channel, body[at : at + room])))

    def _settle(self, channel: int, view: ChannelView) -> Speech:
        values = self.values
        name = values.one(("basic.ack", "basic.ack", "basic.ack", "basic.nack", "basic.reject"))
        at = values.below(len(view.tags))
        tag = view.tags[at]
        multiple = name != "basic.reject" and values.random() < 0.25
        requeue = values.random() < 0.6
        if multiple:
            for _ in range(at + 1):
                view.tags.popleft()
            tag = 0 if at == len(view.tags) and values.chance(0.3) else tag
        else:
            del view.tags[at]
        bits = int(requeue) if name == "basic.reject" else multiple | (requeue and name == "basic.nack") << 1
        return Speech("methods", method(channel, name, U64(tag) + bytes((bits,))))

    # -- what it should not say

    def _meddled(self, speech: Speech) -> Speech:
        """Nearly always as it is; else with an octet that is not as it should be."""
        if self.values.random() >= 0.05 * self.wildness:
            return speech
        if speech.kind == "bodies" and len(speech.octets) > 200:
            return Speech("garbled octets", speech.octets[:-1] + b"\xcd")
        return Speech("garbled octets", self.values.garbled(speech.octets))

    def _mischief(self, channel: int, view: ChannelView) -> Speech:  # noqa: C901, PLR0911
        """Something that is wrong in one place, and whole otherwise."""
        values = self.values
        draw = values.below(20)
        if draw < 4:
            return self._odd_argument(channel, view)
        if draw < 7:
            index, fields = FIELDS[values.one(EVERYDAY)]
            arguments = b"".join(values.odd_table() if kind == "F" else b"" for _, kind in fields)
            if not arguments:
                return self._odd_header(channel)
            before = b"\0\0" + b"".join(b"\x02q0" for _, kind in fields if kind == "s")
            bits = b"\0" if any(kind == "b" for _, kind in fields) else b""
            return Speech("tables", frame(METHOD, channel, index + before + bits + arguments))
        if draw < 10:
            return self._odd_header(channel)
        if draw == 10:
            return Speech("bodies", frame(BODY, channel, values.octets(values.one((0, 1, 50)))))
        if draw < 13:
            return self._odd_frame(channel)
        if draw == 13:
            name = values.one(EVERY_METHOD)
            number = values.one((channel, channel, 0, channel + 1))
            return Speech("methods out of place", self.method(number, view, name).octets)
        if draw == 14:
            index = U16(values.one((10, 20, 30, 40, 50, 60, 70, 85, 90, 99))) + U16(
                values.one((0, 10, 11, 99, 121))
            )
            return Speech("unknown methods", frame(METHOD, channel, index + values.octets(values.below(12))))
        if draw == 15:
            return self._close(channel, view)
        if draw == 16:
            return Speech(
                "heartbeats",
                frame(HEARTBEAT, values.one((0, 0, 0, channel)), values.one((b"", b"", b"", b"x"))),
            )
        if draw == 17:
            return self._flood(channel, view)
        if draw == 18:
            # Two channels in the middle of their content, or one that speaks of something else meanwhile.
            self._publish(channel, view)
            return (
                view.pending.popleft()
                if values.chance(0.7)
                else self.method(channel, view, values.one(EVERYDAY))
            )
        return Speech("raw octets", values.octets(values.one((1, 7, 8, 30, 300))))

    def _odd_argument(self, channel: int, view: ChannelView) -> Speech:
        values = self.values
        name = values.one(
            (*EVERYDAY, "basic.publish", "basic.ack", "basic.nack", "channel.open", "channel.close")
        )
        index, fields = FIELDS[name]
        odd = values.below(max(1, len(fields)))
        parts: list[bytes] = []
        bits = count = 0
        for place, (field, kind) in enumerate(fields):
            if kind == "b":
                bits |= values.below(2) << count
                count += 1
                continue
            if count:
                parts.append(bytes((bits,)))
                bits = count = 0
            parts.append(self._odd(kind) if place == odd else self._argument(name, field, kind, view))
        if count:
            parts.append(bytes((bits,)))
        return Speech("arguments", frame(METHOD, channel, index + b"".join(parts)))

    def _odd(self, kind: str) -> bytes:
        values = self.values
        if kind == "F":
            return values.odd_table()
        if kind == "s":
            return short(values.one(TEXTS)) if values.chance(0.8) else bytes((values.below(256),))
        if kind == "S":
            return U32(values.one(EXTREMES[:9])) + values.octets(3)
        return (values.one(EXTREMES) & MASKS[kind]).to_bytes(WIDTHS[kind], "big")

    def _odd_header(self, channel: int) -> Speech:
        """A publish whose content header is not as it should be."""
        values = self.values
        publish = method(
            channel, "basic.publish", b"\0\0" + short(values.exchange()) + short(values.key()) + b"\0"
        )
        draw = values.below(8)
        fixed, properties = b"\0\x3c\0\0" + U64(0), values.properties()
        if draw == 0:
            fixed = b"\0\x3c\0\0" + U64(values.one(EXTREMES))
        elif draw == 1:
            fixed = U16(values.one((0, 10, 50, 60, 61))) + U16(values.below(2)) + U64(0)
        elif draw == 2:
            properties = U16(values.below(65536)) + values.octets(values.below(30))
        elif draw == 3:
            properties = b"\x20\0" + values.odd_table()
        elif draw == 4:
            properties = properties[: values.below(len(properties))]
        elif draw == 5:
            properties = b"\xff\xfc" + properties[2:]
        else:
            properties = values.garbled(properties)
        return Speech("content headers", publish + frame(HEADER, channel, fixed + properties))

    def _odd_frame(self, channel: int) -> Speech:
        values = self.values
        draw = values.below(7)
        payload = FIELDS["basic.qos"][0] + bytes(7)
        if draw == 0:
            return Speech("frames", frame(values.one((0, 2, 3, 4, 7, 8, 9, 128, 255)), channel, payload))
        if draw == 1:
            return Speech("frames", frame(METHOD, channel, payload[: values.below(12)]))
        if draw == 2:
            return Speech("frames", frame(METHOD, channel, payload)[:-1] + bytes((values.below(256),)))
        if draw == 3:
            size = values.one(
                (0, 1, 10, 12, 4096, self.frame_max - 8, self.frame_max, self.frame_max + 1, 2**32 - 1)
            )
            return Speech("frames", HEAD(values.one((1, 2, 3, 8)), channel, size) + payload + b"\xce")
        if draw == 4:
            return Speech("frames", frame(METHOD, values.one((0, 7, 8, 2047, 2048, 65535)), payload))
        if draw == 5:
            kind = values.one((HEADER, BODY, METHOD))
            return Speech("frames", frame(kind, channel, values.octets(values.one((0, 3, 11, 12, 13, 14)))))
        size = values.one((self.frame_max - 8, self.frame_max - 7, self.frame_max, self.frame_max + 1))
        return Speech("frames", frame(BODY, channel, bytes(size)))

    def _close(self, channel: int, view: ChannelView) -> Speech:
        values = self.values
        name = values.one(("channel.close",) * 6 + ("channel.close-ok", "connection.close", "channel.open"))
        arguments = b"\0\xc8\0\0\0\0\0" if name.endswith(".close") else b"" if name.endswith("ok") else b"\0"
        if name == "connection.close":
            return Speech("methods", method(0, name, arguments))
        if name == "channel.close" and values.chance(0.9):
            # It goes on as if it could have the channel again at once.
            view.pending.clear()
            if values.chance(0.5):
                return Speech(
                    "methods", method(channel, name, arguments) + method(channel, "channel.open", b"\0")
                )
        return Speech("methods", method(channel, name, arguments))

    def _flood(self, channel: int, view: ChannelView) -> Speech:
        """The same again and again, in one piece."""
        values = self.values
        draw = values.below(4)
        many = values.one((10, 40, 150))
        if draw == 0:
            return Speech("floods", frame(HEARTBEAT, 0, b"") * many)
        if draw == 1:
            properties = values.properties()
            publish = method(
                channel, "basic.publish", b"\0\0" + short(values.exchange()) + short(values.key()) + b"\0"
            )
            return Speech(
                "floods", (publish + frame(HEADER, channel, b"\0\x3c\0\0" + U64(0) + properties)) * many
            )
        if draw == 2:
            publish = method(channel, "basic.publish", b"\0\0\0\2q0\0")
            header = frame(HEADER, channel, b"\0\x3c\0\0" + U64(many) + b"\0\0")
            return Speech("floods", publish + header + frame(BODY, channel, b"x") * many)
        return Speech("floods", self.method(channel, view, values.one(EVERYDAY)).octets * many)
