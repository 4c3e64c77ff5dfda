"""Frames that are wrong: cut short, too long, of no known type, in the wrong order, on the wrong channel."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Final

from .. import codec, player
from ..script import Conversation
from .methods import CALLS

GROUP: Final = "frames"

PLACE: Final = player.PLACE.decode()
PUBLISH: Final = codec.encode_method("basic.publish", {"routing_key": PLACE + "q"})


def header(size: int, properties: bytes = b"\0\0", class_id: int = 60, weight: int = 0) -> bytes:
    return codec.encode_header(size, properties, class_id, weight)


def arguments_cut_and_stretched() -> Iterator[Conversation]:
    for call in CALLS:
        arguments = {
            key: value.replace("~", PLACE) if isinstance(value, str) else value
            for key, value in call.arguments.items()
        }
        payload = codec.encode_method(call.method, arguments)
        cuts = {"one-more": payload + b"\0", "head-only": payload[:4]}
        if len(payload) > 5:
            cuts["one-less"] = payload[:-1]
            cuts["half"] = payload[: (len(payload) + 4) // 2]
        for name, cut in cuts.items():
            if cut == payload:
                continue
            conversation = Conversation(f"{GROUP}/arguments/{call.method}-{name}")
            conversation.declare()
            conversation.exchange()
            conversation.frame(codec.METHOD, cut, settle=True)
            yield conversation


def contents() -> Iterator[Conversation]:
    pieces: dict[str, list[tuple[int, bytes]]] = {
        "whole": [(codec.METHOD, PUBLISH), (codec.HEADER, header(3)), (codec.BODY, b"abc")],
        "empty": [(codec.METHOD, PUBLISH), (codec.HEADER, header(0))],
        "empty-and-an-empty-body": [(codec.METHOD, PUBLISH), (codec.HEADER, header(0)), (codec.BODY, b"")],
        "in-pieces": [(codec.METHOD, PUBLISH), (codec.HEADER, header(3)), *[(codec.BODY, b"a")] * 3],
        "with-empty-pieces": [
            (codec.METHOD, PUBLISH), (codec.HEADER, header(2)),
            (codec.BODY, b""), (codec.BODY, b"a"), (codec.BODY, b""), (codec.BODY, b"b"),
        ],
        "header-alone": [(codec.HEADER, header(0))],
        "body-alone": [(codec.BODY, b"a")],
        "header-twice": [(codec.METHOD, PUBLISH), (codec.HEADER, header(3)), (codec.HEADER, header(3))],
        "method-twice": [(codec.METHOD, PUBLISH), (codec.METHOD, PUBLISH)],
        "body-before-header": [(codec.METHOD, PUBLISH), (codec.BODY, b"abc")],
        "other-class": [(codec.METHOD, PUBLISH), (codec.HEADER, header(0, class_id=50))],
        "class-0": [(codec.METHOD, PUBLISH), (codec.HEADER, header(0, class_id=0))],
        "weight": [(codec.METHOD, PUBLISH), (codec.HEADER, header(0, weight=1))],
        "header-cut": [(codec.METHOD, PUBLISH), (codec.HEADER, header(0)[:-1])],
        "header-of-nothing": [(codec.METHOD, PUBLISH), (codec.HEADER, b"")],
        "header-longer": [(codec.METHOD, PUBLISH), (codec.HEADER, header(0) + b"\0")],
        "all-flags": [(codec.METHOD, PUBLISH), (codec.HEADER, header(0, b"\xff\xff"))],
        "continued-flags": [(codec.METHOD, PUBLISH), (codec.HEADER, header(0, b"\x00\x01\x00\x00"))],
        "undefined-flag": [(codec.METHOD, PUBLISH), (codec.HEADER, header(0, b"\x00\x02"))],
        "properties-cut": [(codec.METHOD, PUBLISH), (codec.HEADER, header(0, b"\x80\x00\x09text"))],
        "too-long-at-once": [(codec.METHOD, PUBLISH), (codec.HEADER, header(2)), (codec.BODY, b"abc")],
        "larger-than-allowed": [(codec.METHOD, PUBLISH), (codec.HEADER, header(2**27 + 1))],
        "much-larger": [(codec.METHOD, PUBLISH), (codec.HEADER, header(2**63))],
        "immediate-first": [
            (codec.METHOD, codec.encode_method("basic.publish", {"routing_key": PLACE + "q", "immediate": True})),
            (codec.HEADER, header(0)),
        ],
        "no-exchange-first": [
            (codec.METHOD, codec.encode_method("basic.publish", {"exchange": PLACE + "none"})),
            (codec.HEADER, header(3)),
            (codec.BODY, b"abc"),
        ],
    }  # fmt: skip
    for name, frames in pieces.items():
        conversation = Conversation(f"{GROUP}/content/{name}")
        conversation.declare()
        for kind, payload in frames[:-1]:
            conversation.frame(kind, payload)
        conversation.frame(frames[-1][0], frames[-1][1], settle=True)
        conversation.drain()
        yield conversation
    conversation = Conversation(f"{GROUP}/content/of-two-channels-interleaved")
    conversation.declare()
    for channel in (1, 2):
        conversation.on(1, channel).send("channel.flow", active=True)
    for kind, payload in pieces["whole"]:
        for channel in (1, 2):
            conversation.on(1, channel).frame(kind, payload)
    conversation.settle()
    conversation.drain()
    yield conversation
    conversation = Conversation(f"{GROUP}/content/close-in-the-middle")
    conversation.declare()
    conversation.frame(codec.METHOD, PUBLISH)
    conversation.frame(codec.METHOD, codec.encode_method("channel.close", {"reply_code": 200}))
    conversation.hear()
    conversation.drain()
    yield conversation


def odd_frames() -> Iterator[Conversation]:
    frames = {
        "heartbeat": codec.encode_frame(codec.HEARTBEAT, 0, b""),
        "heartbeat-on-1": codec.encode_frame(codec.HEARTBEAT, 1, b""),
        "heartbeat-with-payload": codec.encode_frame(codec.HEARTBEAT, 0, b"x"),
        "end-0": codec.encode_frame(codec.METHOD, 1, codec.encode_method("tx.select", {}), end=0),
        "end-0-on-channel-0": codec.encode_frame(codec.HEARTBEAT, 0, b"", end=0),
        "type-0": codec.encode_frame(0, 1, b"abc"),
        "type-4": codec.encode_frame(4, 1, b"abc"),
        "type-9-on-0": codec.encode_frame(9, 0, b"abc"),
        "type-255": codec.encode_frame(255, 1, b""),
        "empty-method": codec.encode_frame(codec.METHOD, 1, b""),
        "method-of-3-octets": codec.encode_frame(codec.METHOD, 1, b"\0\x3c\0"),
        "header-on-channel-0": codec.encode_frame(codec.HEADER, 0, header(0)),
        "body-on-channel-0": codec.encode_frame(codec.BODY, 0, b"a"),
        "header-on-unopened": codec.encode_frame(codec.HEADER, 9, header(0)),
        "body-on-unopened": codec.encode_frame(codec.BODY, 9, b"a"),
        "just-fits": codec.encode_frame(codec.BODY, 1, b"b" * (131072 - 8)),
        "eight-more": codec.encode_frame(codec.BODY, 1, b"b" * 131072),
        "nine-more": struct.pack(">BHI", codec.BODY, 1, 131073),
        "enormous": struct.pack(">BHI", codec.METHOD, 1, 2**32 - 1),
        "unknown-method": codec.encode_frame(codec.METHOD, 1, b"\0\x3c\0\x63"),
        "unknown-class": codec.encode_frame(codec.METHOD, 1, b"\0\x63\0\x63"),
        "unknown-method-on-0": codec.encode_frame(codec.METHOD, 0, b"\0\x0a\0\x63"),
        "bad-type-in-table": codec.encode_frame(
            codec.METHOD,
            1,
            codec.encode_method("queue.declare", {"queue": PLACE + "t", "arguments": b"\x01aZ"}),
        ),
        "table-longer-than-frame": codec.encode_frame(
            codec.METHOD, 1, codec.encode_method("queue.declare", {"queue": PLACE + "t"})[:-4] + b"\0\0\0\x05"
        ),
        "table-cut": codec.encode_frame(
            codec.METHOD,
            1,
            codec.encode_method("queue.declare", {"queue": PLACE + "t", "arguments": b"\x01aI\0"}),
        ),
    }
    for name, data in frames.items():
        conversation = Conversation(f"{GROUP}/odd/{name}")
        conversation.declare()
        conversation.octets(data, settle=True)
        yield conversation
    conversation = Conversation(f"{GROUP}/odd/octet-by-octet")
    conversation.declare()
    for octet in codec.encode_frame(codec.METHOD, 1, codec.encode_method("tx.select", {})):
        conversation.octets(bytes([octet]))
    conversation.settle()
    yield conversation


def conversations() -> Iterator[Conversation]:
    yield from arguments_cut_and_stretched()
    yield from contents()
    yield from odd_frames()
