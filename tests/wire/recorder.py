"""A frame handler that writes down what it is told, and conversations that know what that has to be."""

from __future__ import annotations

from amqp_broker.content.body import Piece
from amqp_broker.content.header import ContentHeader
from amqp_broker.wire.reader import BASIC_PUBLISH, FrameHandler, FrameReader, Publish
from tests.conversations.codec import BODY, HEADER, HEARTBEAT, METHOD, Frame, encode_header, encode_method

Call = tuple[object, ...]


class Recorder(FrameHandler):
    """calls: what was called with what, in order. closing: publishes are refused and stray content discarded."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.closing = False

    def publish_received(self, channel_id: int, payload: bytes) -> Publish | None:
        self.calls.append(("publish", channel_id, payload))
        return None if self.closing else Publish(channel_id, payload)

    def method_received(self, channel_id: int, payload: bytes) -> None:
        self.calls.append(("method", channel_id, payload))

    def message_received(
        self, publish: Publish, header: ContentHeader, body: bytes, chunks: list[Piece] | None
    ) -> None:
        whole = body if chunks is None else b"".join(chunks)
        self.calls.append(("message", publish.channel_id, publish.address, header.payload, whole))

    def message_too_large(self, publish: Publish, size: int) -> None:
        self.calls.append(("too large", publish.channel_id, size))

    def discards(self, channel_id: int) -> bool:
        return self.closing


class Conversation:
    """Octets of a client, put together frame by frame, and the calls they must lead to.

    boundaries: where each frame ends.
    """

    def __init__(self) -> None:
        self.octets = b""
        self.calls: list[Call] = []
        self.boundaries: list[int] = []
        self._published: set[tuple[int, bytes]] = set()

    def frame(self, kind: int, channel_id: int, payload: bytes) -> Conversation:
        self.octets += Frame(kind, channel_id, payload).encoded()
        self.boundaries.append(len(self.octets))
        return self

    def heartbeat(self) -> Conversation:
        return self.frame(HEARTBEAT, 0, b"")

    def method(self, channel_id: int, name: str, **arguments: object) -> Conversation:
        payload = encode_method(name, arguments)
        self.calls.append(("method", channel_id, payload))
        return self.frame(METHOD, channel_id, payload)

    def publish(self, channel_id: int, routing_key: str = "key") -> Conversation:
        """Only the method: the handler is asked about it the first time it is seen."""
        payload = encode_method("basic.publish", {"exchange": "ex", "routing_key": routing_key})
        assert payload.startswith(BASIC_PUBLISH)
        if (channel_id, payload) not in self._published:
            self._published.add((channel_id, payload))
            self.calls.append(("publish", channel_id, payload))
        return self.frame(METHOD, channel_id, payload)

    def header(self, channel_id: int, body_size: int, **properties: object) -> Conversation:
        return self.frame(HEADER, channel_id, encode_header(body_size, properties))

    def body(self, channel_id: int, payload: bytes) -> Conversation:
        return self.frame(BODY, channel_id, payload)

    def arrives(self, channel_id: int, routing_key: str, body: bytes, **properties: object) -> Conversation:
        """A message is complete here."""
        key = routing_key.encode()
        address = b"\x02ex" + bytes((len(key),)) + key
        header = encode_header(len(body), properties)
        self.calls.append(("message", channel_id, address, header, body))
        return self

    def message(
        self, channel_id: int, routing_key: str, *bodies: bytes, **properties: object
    ) -> Conversation:
        """A publish with its content, a frame for each of `bodies`."""
        body = b"".join(bodies)
        self.publish(channel_id, routing_key)
        self.header(channel_id, len(body), **properties)
        for payload in bodies:
            self.body(channel_id, payload)
        return self.arrives(channel_id, routing_key, body, **properties)


def calls_for(pieces: list[bytes], frame_max: int = 131072) -> list[Call]:
    """What a handler hears of octets that come in these pieces."""
    recorder = Recorder()
    reader = FrameReader(recorder, frame_max, 1 << 27)
    for piece in pieces:
        reader.feed(piece)
    return recorder.calls


def octet_by_octet(octets: bytes) -> list[bytes]:
    return [octets[at : at + 1] for at in range(len(octets))]
