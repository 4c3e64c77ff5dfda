"""How a connection begins: headers, mechanisms, what is tuned, virtual hosts; and what follows an open one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from .. import codec
from ..link import PROTOCOL_HEADER
from ..script import Conversation

GROUP: Final = "handshake"

HEADERS: Final[dict[str, bytes]] = {
    "0-9-1": PROTOCOL_HEADER,
    "0-9": b"AMQP\x01\x01\x00\x09",
    "0-8": b"AMQP\x01\x01\x08\x00",
    "0-10": b"AMQP\x01\x01\x00\x0a",
    "0-9-2": b"AMQP\x00\x00\x09\x02",
    "1-0": b"AMQP\x00\x01\x00\x00",
    "1-0-sasl": b"AMQP\x03\x01\x00\x00",
    "tls": b"AMQP\x02\x01\x00\x00",
    "http": b"GET / HTTP/1.1\r\n\r\n",
    "zeros": bytes(8),
    "a-frame": codec.encode_frame(codec.METHOD, 0, codec.encode_method("channel.open", {})),
}
LOGINS: Final[dict[str, dict[str, Any]]] = {
    "plain": {},
    "with-authorization-id": {"response": "guest\0guest\0guest"},
    "other-authorization-id": {"response": "other\0guest\0guest"},
    "wrong-password": {"response": "\0guest\0wrong"},
    "unknown-user": {"response": "\0nobody\0guest"},
    "empty-password": {"response": "\0guest\0"},
    "empty": {"response": ""},
    "one-nul": {"response": "\0guest"},
    "no-nul": {"response": "guest"},
    "three-nuls": {"response": "\0guest\0guest\0"},
    "unknown-mechanism": {"mechanism": "NOTHING"},
    "no-mechanism": {"mechanism": ""},
    "lower-case": {"mechanism": "plain"},
    "anonymous": {"mechanism": "ANONYMOUS", "response": ""},
    "amqplain": {
        "mechanism": "AMQPLAIN",
        "response": codec.encode_table({"LOGIN": "guest", "PASSWORD": "guest"})[4:],
    },
    "amqplain-wrong": {
        "mechanism": "AMQPLAIN",
        "response": codec.encode_table({"LOGIN": "guest", "PASSWORD": "wrong"})[4:],
    },
    "amqplain-without-password": {
        "mechanism": "AMQPLAIN",
        "response": codec.encode_table({"LOGIN": "guest"})[4:],
    },
    "amqplain-malformed": {"mechanism": "AMQPLAIN", "response": b"\x05LOG"},
    "locale": {"locale": "xx_XX"},
    "no-locale": {"locale": ""},
    "properties": {"properties": {"t": {"a": [1, "b"]}, "version": 5, "product": None}},
}
TUNES: Final[dict[str, dict[str, int]]] = {
    "as-offered": {},
    "frame-max-4096": {"frame_max": 4096},
    "frame-max-4095": {"frame_max": 4095},
    "frame-max-0": {"frame_max": 0},
    "frame-max-more": {"frame_max": 131073},
    "frame-max-most": {"frame_max": 2**32 - 1},
    "channel-max-1": {"channel_max": 1},
    "channel-max-0": {"channel_max": 0},
    "channel-max-more": {"channel_max": 2048},
    "channel-max-most": {"channel_max": 65535},
    "heartbeat-600": {"heartbeat": 600},
    "heartbeat-most": {"heartbeat": 65535},
    "both-wrong": {"frame_max": 1, "channel_max": 5000},
}
VHOSTS: Final = ("/", "", "nowhere", "full", "shut", "é", "v" * 255)


def conversations() -> Iterator[Conversation]:
    for name, header in HEADERS.items():
        conversation = Conversation(f"{GROUP}/header/{name}")
        conversation.dial()
        conversation.octets(header)
        conversation.hear()
        if name in ("0-9-1", "0-9", "0-8"):
            yield conversation
            continue
        conversation.hear(2)
        yield conversation
    for capable in (True, False):
        for name, options in LOGINS.items():
            if not capable and name not in ("plain", "wrong-password", "unknown-mechanism", "one-nul"):
                continue
            conversation = Conversation(f"{GROUP}/login/{name}{'' if capable else '-not-capable'}")
            extra: dict[str, Any] = {} if capable else {"capabilities": {}}
            conversation.connect(**options, **extra)
            conversation.settle()
            yield conversation
    for name, tune in TUNES.items():
        conversation = Conversation(f"{GROUP}/tune/{name}")
        conversation.connect(tune=tune)
        conversation.settle()
        yield conversation
    for vhost in VHOSTS:
        for user in ("guest", "outsider", "barred"):
            conversation = Conversation(f"{GROUP}/vhost/{vhost[:8] or 'empty'}-as-{user}")
            conversation.connect(virtual_host=vhost, response=f"\0{user}\0{user}")
            conversation.settle()
            yield conversation
    for channel_max, opened in ((2, 3), (5, 5)):
        conversation = Conversation(f"{GROUP}/channels/{opened}-of-{channel_max}")
        conversation.connect(tune={"channel_max": channel_max})
        for number in range(1, opened + 1):
            conversation.on(1, number).send("channel.open")
        conversation.settle()
        yield conversation
    conversation = Conversation(f"{GROUP}/channels/limit-of-user")
    conversation.connect(response="\0single\0single")
    for number in (1, 2, 3):
        conversation.on(1, number).send("channel.open")
    yield conversation
    for name, method, arguments in (
        ("open-before-start-ok", "connection.open", {"virtual_host": "/"}),
        ("channel-before-start-ok", "channel.open", {}),
        ("tune-ok-before-start-ok", "connection.tune-ok", {}),
        ("close-before-start-ok", "connection.close", {"reply_code": 200}),
    ):
        conversation = Conversation(f"{GROUP}/early/{name}")
        conversation.dial()
        conversation.octets(PROTOCOL_HEADER)
        conversation.hear()
        conversation.on(1, 1 if method.startswith("channel") else 0).octets(
            codec.encode_frame(
                codec.METHOD, 1 if method.startswith("channel") else 0, codec.encode_method(method, arguments)
            )
        )
        conversation.hear(2)
        yield conversation
    for reason, text in ((200, "bye"), (0, ""), (541, "é" * 100)):
        conversation = Conversation(f"{GROUP}/close/{reason}")
        conversation.on(1, 2).declare(exclusive=True)
        conversation.on(1, 0).blurt("connection.close", reply_code=reason, reply_text=text)
        conversation.hear()
        yield conversation
    for reason, text in ((200, "bye"), (0, ""), (541, "é" * 100)):
        conversation = Conversation(f"{GROUP}/close-channel/{reason}")
        conversation.declare()
        conversation.send("channel.close", reply_code=reason, reply_text=text, class_id=9, method_id=9)
        conversation.send("channel.open")
        conversation.publish("~q", mandatory=True)
        conversation.drain()
        yield conversation
    conversation = Conversation(f"{GROUP}/update-secret")
    conversation.declare()
    conversation.on(1, 0).send("connection.update-secret", new_secret="new", reason="why not")
    conversation.settle()
    yield conversation
