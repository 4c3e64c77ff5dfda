"""Whether what a broker says is AMQP 0-9-1: frames, methods, content, and closes with the codes of the specification.

A `Judge` hears one connection's output, split anywhere, and raises `Illegal` at the first octet that no broker may
send there. Methods are decoded twice, by the tests' own codec and by pamqp. It knows nothing of what was asked.
"""

from __future__ import annotations

import warnings
from collections import Counter
from typing import Any, Final, NamedTuple

import pamqp.frame

from tests.conversations.client import REPLY_NAMES
from tests.conversations.codec import CONTENT_METHODS, METHODS, decode_header, decode_method

PROTOCOL_HEADER: Final = b"AMQP\x00\x00\x09\x01"
METHOD, HEADER, BODY, HEARTBEAT = 1, 2, 3, 8
SOFT: Final = frozenset((311, 313, 403, 404, 405, 406))
HARD: Final = frozenset((320, 501, 502, 503, 504, 505, 506, 530, 540, 541))
OF_CHANNEL_0: Final = frozenset(name for name in METHODS if name.startswith("connection."))
FROM_SERVERS: Final = frozenset(
    name
    for name in METHODS
    if name.endswith("-ok") or name in CONTENT_METHODS
) - {"connection.start-ok", "connection.tune-ok", "connection.secure-ok"} | {
    "connection.start", "connection.tune", "connection.close", "connection.blocked", "connection.unblocked",
    "channel.close", "basic.ack", "basic.nack", "basic.cancel", "basic.get-empty",
}  # fmt: skip
HANDSHAKE: Final = ("connection.start", "connection.tune", "connection.open-ok")
# What Python writes for a value, and no client has sent.
INSIDE: Final = ("Field(", " object at 0x", "<class ", "'None'", "Traceback")
MOST_KNOWN: Final = 20_000
UNKNOWN_TO_PAMQP: Final = frozenset(("access.request-ok",))
# pamqp reads all strings as UTF-8; a routing key may be any octets, and closes quote what came in RabbitMQ's octets.
MAY_BE_ANY_OCTETS: Final = frozenset(
    ("basic.deliver", "basic.get-ok", "basic.return", "connection.close", "channel.close")
)


class Illegal(AssertionError):
    """The broker said what it may not say, or is not in the state that it should be in."""


class Heard(NamedTuple):
    """A method that came, without its content. "protocol header" and "heartbeat" are others."""

    channel: int
    name: str
    arguments: dict[str, Any]


_known: dict[bytes, tuple[str, dict[str, Any]]] = {}
_headers_known: set[bytes] = set()


def read_method(payload: bytes) -> tuple[str, dict[str, Any]]:
    """The method in a payload, which has to be one that both codecs can read."""
    found = _known.get(payload)
    if found is None:
        try:
            found = decode_method(payload)
        except (AssertionError, KeyError, ValueError) as error:
            raise Illegal(f"a method that cannot be read: {payload!r}: {error!r}") from None
        _agree_with_pamqp(b"\x01\0\1" + len(payload).to_bytes(4, "big") + payload + b"\xce", found[0])
        if len(_known) > MOST_KNOWN:
            _known.clear()
        _known[payload] = found
    return found


def _agree_with_pamqp(octets: bytes, name: str) -> None:
    if name in UNKNOWN_TO_PAMQP:
        return
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            count, _, read = pamqp.frame.unmarshal(octets)
    except pamqp.exceptions.UnmarshalingException as error:
        if name in MAY_BE_ANY_OCTETS and "UnicodeDecodeError" in repr(error):
            return
        raise Illegal(f"pamqp cannot read {octets!r}: {error!r}") from None
    assert count == len(octets)
    said = read.name.lower().replace("-", "").replace(".", "") if hasattr(read, "name") else ""
    if said != name.replace("-", "").replace(".", ""):
        raise Illegal(f"pamqp reads {octets!r} as {read!r}")


class _Heard:
    """What was heard of one channel. open: None after a close of the broker's, until it is opened again."""

    __slots__ = ("confirmed", "content", "muddled", "open", "size", "tag")

    def __init__(self) -> None:
        self.open: bool | None = False
        # Its client did not wait for a close-ok before it opened the channel again, so what is said is of either.
        self.muddled = False
        self.tag = 0
        self.confirmed = 0
        # A method whose header is due, or the octets of body that are.
        self.content: str | None = None
        self.size = 0


class Judge:
    """frame_max: what the client takes. errors: by reply code. closed: the broker has said its last word.

    saw: methods that came since the last `take`.
    """

    def __init__(self, frame_max: int = 131072) -> None:
        self.frame_max = frame_max
        self.errors: Counter[int] = Counter()
        self.closed = False
        self.greeted = 0
        self.octets = 0
        self._saw: list[Heard] = []
        self._rest = b""
        self._channels: dict[int, _Heard] = {}

    def take(self) -> list[Heard]:
        saw, self._saw = self._saw, []
        return saw

    def hear(self, octets: bytes) -> None:
        """Some more output. Raises Illegal."""
        self.octets += len(octets)
        data = self._rest + octets if self._rest else octets
        if not self.greeted and data[:4] == b"AMQP":
            if data != PROTOCOL_HEADER[: len(data)] or self.closed:
                raise Illegal(f"after a protocol header: {data!r}")
            self._rest = data
            if data == PROTOCOL_HEADER:
                self.closed = True
                self._rest = b""
                self._saw.append(Heard(0, "protocol header", {}))
            return
        at, end = 0, len(data)
        while end - at >= 8:
            kind = data[at]
            channel = data[at + 1] << 8 | data[at + 2]
            stop = at + 7 + int.from_bytes(data[at + 3 : at + 7], "big")
            if kind not in (METHOD, HEADER, BODY, HEARTBEAT):
                raise Illegal(f"a frame of type {kind}: {data[at : at + 40]!r}")
            # A content header is one frame, however long it is.
            if stop - at + 1 > self.frame_max and kind != HEADER:
                raise Illegal(f"a frame of {stop - at + 1} octets, {self.frame_max} negotiated")
            if stop >= end:
                break
            if data[stop] != 0xCE:
                raise Illegal(f"a frame that ends with {data[stop]}: {data[at : stop + 1][:200]!r}")
            self._frame(kind, channel, data[at + 7 : stop])
            at = stop + 1
        self._rest = data[at:]

    def end(self) -> None:
        """The socket was closed by the broker. Raises Illegal if that is in the middle of something."""
        if self._rest:
            raise Illegal(f"the connection ends after half a frame: {self._rest[:100]!r}")

    def _frame(self, kind: int, channel: int, payload: bytes) -> None:
        if self.closed and kind != HEARTBEAT and payload[:4] != b"\0\x0a\0\x33":
            raise Illegal(f"after its close: frame {kind} on channel {channel}: {payload[:100]!r}")
        if kind == METHOD:
            self._method(channel, payload)
        elif kind == HEARTBEAT:
            if channel or payload:
                raise Illegal(f"a heartbeat on channel {channel} with {payload!r}")
        else:
            self._content(kind, channel, payload)

    def _content(self, kind: int, channel: int, payload: bytes) -> None:
        heard = self._channels.get(channel)
        if heard is None or (heard.content is None) == (kind == HEADER):
            raise Illegal(f"frame {kind} on channel {channel} where none is due: {payload[:100]!r}")
        if kind == HEADER:
            heard.content = None
            heard.size = read_header(payload)
            return
        if not payload or len(payload) > heard.size:
            raise Illegal(f"a body frame of {len(payload)} octets where {heard.size} are due")
        heard.size -= len(payload)

    def _method(self, channel: int, payload: bytes) -> None:
        name, arguments = read_method(payload)
        if name not in FROM_SERVERS:
            raise Illegal(f"{name} from a broker")
        if (name in OF_CHANNEL_0) != (channel == 0):
            raise Illegal(f"{name} on channel {channel}")
        if channel == 0:
            self._on_channel_0(name, arguments)
        else:
            if self.greeted < 3:
                raise Illegal(f"{name} on channel {channel} before connection.open-ok")
            self._on_channel(channel, name, arguments)
        self._saw.append(Heard(channel, name, arguments))

    def _on_channel_0(self, name: str, arguments: dict[str, Any]) -> None:
        if name in HANDSHAKE:
            if HANDSHAKE.index(name) != self.greeted:
                raise Illegal(f"{name} as step {self.greeted} of the handshake")
            self.greeted += 1
        elif name == "connection.close":
            self.closed = True
            refused_login = self.greeted == 1 and arguments["reply_code"] == 403
            self._check_close(arguments, HARD, known=refused_login)
            if self.greeted < 2 and not refused_login:
                raise Illegal(f"a stranger is told {arguments}")
        elif name == "connection.close-ok":
            self.closed = True
        elif self.greeted < 3:
            raise Illegal(f"{name} before connection.open-ok")

    def _on_channel(self, channel: int, name: str, arguments: dict[str, Any]) -> None:
        heard = self._channels.get(channel)
        if heard is None:
            heard = self._channels[channel] = _Heard()
        if heard.content is not None or heard.size:
            raise Illegal(f"{name} in the middle of content on channel {channel}")
        if name == "channel.open-ok":
            muddled = heard.muddled or heard.open is True
            heard.__init__()  # type: ignore[misc]
            heard.open, heard.muddled = True, muddled
            return
        if heard.open is not True and name != "channel.close-ok" and not heard.muddled:
            raise Illegal(f"{name} on channel {channel}, which is not open")
        if name == "channel.close":
            heard.open = None
            self._check_close(arguments, SOFT)
        elif name == "channel.close-ok":
            heard.open = False
        elif name in ("basic.ack", "basic.nack"):
            self._confirm(heard, name, arguments)
        elif name in CONTENT_METHODS:
            heard.content = name
            if name != "basic.return":
                if arguments["delivery_tag"] != heard.tag + 1 and not heard.muddled:
                    raise Illegal(f"{name} has tag {arguments['delivery_tag']} after {heard.tag}")
                heard.tag = arguments["delivery_tag"]

    def _confirm(self, heard: _Heard, name: str, arguments: dict[str, Any]) -> None:
        """Each publish is confirmed once, in order."""
        tag = arguments["delivery_tag"]
        in_order = tag > heard.confirmed if arguments["multiple"] else tag == heard.confirmed + 1
        if not in_order and not heard.muddled:
            raise Illegal(f"{name} {arguments} after {heard.confirmed} were confirmed")
        heard.confirmed = tag

    def _check_close(self, arguments: dict[str, Any], codes: frozenset[int], *, known: bool = False) -> None:
        code, text = arguments["reply_code"], arguments["reply_text"]
        self.errors[code] += 1
        if code not in codes and not known:
            raise Illegal(f"a close with the code {code}: {text!r}")
        if any(sign in text for sign in INSIDE):
            raise Illegal(f"a close that shows the broker's inside: {text!r}")
        # Administrators give reasons in words of their own.
        if code != 320 and text != REPLY_NAMES[code] and not text.startswith(REPLY_NAMES[code] + " - "):
            raise Illegal(f"a close {code} with the text {text!r}")


def read_header(payload: bytes) -> int:
    """The body size in a content header, which has to be one that the codec can read."""
    size = int.from_bytes(payload[4:12], "big")
    rest = payload[:4] + payload[12:]
    if rest not in _headers_known:
        try:
            decode_header(payload)
        except (AssertionError, ValueError) as error:
            raise Illegal(f"a content header that cannot be read: {payload!r}: {error!r}") from None
        if len(_headers_known) > MOST_KNOWN:
            _headers_known.clear()
        _headers_known.add(rest)
    return size
