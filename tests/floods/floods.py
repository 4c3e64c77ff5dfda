"""What one connection can do to a broker, a generator for each kind: it prepares, says so by its first `yield`, and
then sends as fast as it can until it is closed or time is up.

Each yield but the first stands for some blocks sent. `scale` is of what is prepared: queues, bindings, messages.
"""

from __future__ import annotations

import contextlib
import itertools
import socket
import struct
from collections.abc import Callable, Iterator
from typing import Any, Final

from tests.conversations.codec import Frame, encode_table
from tests.floods.peer import (
    FRAME_MAX,
    Peer,
    body,
    header,
    method,
    opening,
    publish,
    start_ok,
)

Flood = Callable[[Peer, float], Iterator[None]]
FLOODS: Final[dict[str, Flood]] = {}
# Octets that are sent together.
BLOCK: Final = 65536
READY: Final = None


def flood(function: Flood) -> Flood:
    FLOODS[function.__name__.replace("_", "-")] = function
    return function


def repeated(peer: Peer, frames: bytes) -> Iterator[None]:
    """Send the same again and again."""
    block = frames * max(1, BLOCK // len(frames))
    yield READY
    while not peer.over:
        peer.send(block)
        yield


def many(scale: float, number: int) -> int:
    return max(1, int(number * scale))


def declare(peer: Peer, queue: str, **arguments: Any) -> str:
    """A queue of this connection's own, in memory."""
    name: str = peer.call("queue.declare", queue=queue, exclusive=True, arguments=arguments)["queue"]
    return name


def declared_quietly(queue: str, **arguments: Any) -> bytes:
    return method("queue.declare", queue=queue, exclusive=True, nowait=True, arguments=arguments)


def exchange(peer: Peer, kind: str) -> str:
    name = f"flood-{kind}"
    peer.call("exchange.declare", exchange=name, type=kind, auto_delete=True)
    return name


# -- frames


@flood
def heartbeats(peer: Peer, scale: float) -> Iterator[None]:
    return repeated(peer, b"\x08\x00\x00\x00\x00\x00\x00\xce")


@flood
def flows(peer: Peer, scale: float) -> Iterator[None]:
    return repeated(peer, method("channel.flow", active=True))


@flood
def access_requests(peer: Peer, scale: float) -> Iterator[None]:
    return repeated(peer, method("access.request", realm="/", active=True))


@flood
def bodiless_messages(peer: Peer, scale: float) -> Iterator[None]:
    """Publishes of no octet, of which a queue keeps a few."""
    declare(peer, "flood", **{"x-max-length": 100})
    return repeated(peer, publish("", "flood"))


@flood
def empty_body_frames(peer: Peer, scale: float) -> Iterator[None]:
    """A message of one octet that never comes, but empty frames do."""
    peer.send(method("basic.publish", routing_key="nowhere") + header(1))
    return repeated(peer, body(b""))


@flood
def one_octet_frames(peer: Peer, scale: float) -> Iterator[None]:
    """Bodies of a million octets, each octet in a frame of its own."""
    declare(peer, "flood", **{"x-max-length": 2})
    start = method("basic.publish", routing_key="flood") + header(1_000_000)
    block = body(b"x") * 10_000
    yield READY
    while not peer.over:
        peer.send(start)
        for _ in range(100):
            peer.send(block)
            yield


@flood
def one_octet_writes(peer: Peer, scale: float) -> Iterator[None]:
    """Ordinary messages, each octet a write of its own."""
    frames = publish("", "nowhere", b"x" * 20)
    yield READY
    while not peer.over:
        for at in range(len(frames)):
            peer.send(frames[at : at + 1])
        yield


@flood
def unfinished_bodies(peer: Peer, scale: float) -> Iterator[None]:
    """On every channel a message that is announced as large, and never ends; all end with the connection."""
    channels = range(2, many(scale, 2000) + 2)
    for channel in channels:
        peer.call("channel.open", channel)
    starts = b"".join(
        method("basic.publish", channel, routing_key="nowhere") + header(1 << 26, channel=channel)
        for channel in channels
    )
    piece = b"".join(body(b"x" * 10, channel) for channel in channels)
    yield READY
    peer.send(starts)
    while not peer.over:
        peer.send(piece)
        yield


@flood
def large_headers(peer: Peer, scale: float) -> Iterator[None]:
    """Content headers as large as a frame, no two alike."""
    filler = {f"k{number}": number for number in range(9000)}
    yield READY
    for number in itertools.count():
        if peer.over:
            return
        peer.send(publish("amq.fanout", "", b"", {"headers": filler | {"n": number}}))
        yield


@flood
def nested_headers(peer: Peer, scale: float) -> Iterator[None]:
    """Tables in tables, as deep as a frame allows, to an exchange that looks at them."""
    name = exchange(peer, "headers")
    declare(peer, "flood")
    peer.call("queue.bind", queue="flood", exchange=name, arguments={"x-match": "any", "b": 1})
    nested = b""
    for _ in range(9000):
        nested = b"\x01aF" + struct.pack(">I", len(nested)) + nested
    return repeated(peer, publish(name, "", b"", {"headers": nested}))


@flood
def nested_arguments(peer: Peer, scale: float) -> Iterator[None]:
    nested = b""
    for _ in range(9000):
        nested = b"\x01aF" + struct.pack(">I", len(nested)) + nested
    return repeated(peer, method("queue.declare", queue="", exclusive=True, arguments=nested, nowait=True))


# -- churn


@flood
def channels(peer: Peer, scale: float) -> Iterator[None]:
    return repeated(peer, method("channel.open", 2) + method("channel.close", 2))


@flood
def failing_channels(peer: Peer, scale: float) -> Iterator[None]:
    """Publishes to an exchange that is not there, each of which closes the channel."""
    failing = method("channel.open", 2) + method("basic.publish", 2, exchange="none") + header(0, channel=2)
    return repeated(peer, failing + method("channel.close-ok", 2))


@flood
def consumers(peer: Peer, scale: float) -> Iterator[None]:
    declare(peer, "flood")
    consume = method("basic.consume", queue="flood", consumer_tag="t")
    return repeated(peer, consume + method("basic.cancel", consumer_tag="t"))


@flood
def cancels(peer: Peer, scale: float) -> Iterator[None]:
    return repeated(peer, method("basic.cancel", consumer_tag="nobody"))


@flood
def qos_of_many_consumers(peer: Peer, scale: float) -> Iterator[None]:
    """A prefetch shared by many consumers, set again and again."""
    declare(peer, "flood")
    tags = range(many(scale, 5000))
    peer.tell_all(
        [method("basic.consume", queue="flood", consumer_tag=f"{tag}", nowait=True) for tag in tags]
    )
    return repeated(peer, method("basic.qos", prefetch_count=1, global_=True))


@flood
def queues(peer: Peer, scale: float) -> Iterator[None]:
    once = method("queue.declare", queue="flood", exclusive=True) + method("queue.delete", queue="flood")
    return repeated(peer, once)


@flood
def durable_queues(peer: Peer, scale: float) -> Iterator[None]:
    once = method("queue.declare", queue="flood", durable=True) + method("queue.delete", queue="flood")
    return repeated(peer, once)


@flood
def exchanges(peer: Peer, scale: float) -> Iterator[None]:
    once = method("exchange.declare", exchange="flood", type="topic", durable=True)
    return repeated(peer, once + method("exchange.delete", exchange="flood"))


@flood
def bindings(peer: Peer, scale: float) -> Iterator[None]:
    declare(peer, "flood")
    ends: dict[str, Any] = {"queue": "flood", "exchange": "amq.topic", "routing_key": "a.#.b.*.c"}
    return repeated(peer, method("queue.bind", **ends) + method("queue.unbind", **ends))


@flood
def bindings_among_many(peer: Peer, scale: float) -> Iterator[None]:
    """A binding comes and goes at a fanout exchange that has thousands."""
    name = exchange(peer, "fanout")
    for frames in queues_bound(name, many(scale, 5000)):
        peer.tell_all(frames)
    ends: dict[str, Any] = {"queue": "q0", "exchange": name, "routing_key": "other"}
    return repeated(peer, method("queue.bind", **ends) + method("queue.unbind", **ends))


def queues_bound(exchange_name: str, number: int, **arguments: Any) -> Iterator[list[bytes]]:
    """Frames that declare queues and bind them all alike, some at a time."""
    for start in range(0, number, 1000):
        frames = []
        for at in range(start, min(start + 1000, number)):
            frames.append(declared_quietly(f"q{at}", **arguments))
            frames.append(
                method("queue.bind", queue=f"q{at}", exchange=exchange_name, routing_key="k", nowait=True)
            )
        yield frames


@flood
def connections(peer: Peer, scale: float) -> Iterator[None]:
    """Connections that open a channel and go, one after the other and without a word."""
    said = opening()
    yield READY
    while not peer.over:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", peer.port), 10) as other:
            other.sendall(said)
            other.recv(65536)
        yield


@flood
def sockets(peer: Peer, scale: float) -> Iterator[None]:
    """Connections that never say anything."""
    yield READY
    while not peer.over:
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", peer.port), 10).close()
        yield


@flood
def half_logins(peer: Peer, scale: float) -> Iterator[None]:
    """Connections that stop in the middle of start-ok, a thousand at a time."""
    said = opening()[:8] + start_ok()[:-4]
    yield READY
    while not peer.over:
        held = []
        with contextlib.suppress(OSError):
            for _ in range(many(scale, 1000)):
                other = socket.create_connection(("127.0.0.1", peer.port), 10)
                held.append(other)
                other.sendall(said)
                if peer.over:
                    break
        for other in held:
            other.close()
        yield


# -- queues


@flood
def gets_of_nothing(peer: Peer, scale: float) -> Iterator[None]:
    declare(peer, "flood")
    return repeated(peer, method("basic.get", queue="flood"))


@flood
def gets_and_returns(peer: Peer, scale: float) -> Iterator[None]:
    """A large message fetched and given back."""
    declare(peer, "flood")
    peer.send(publish("", "flood", b"x" * 100_000))
    return repeated(
        peer, method("basic.get", queue="flood") + method("basic.nack", requeue=True, multiple=True)
    )


@flood
def gets_unread(peer: Peer, scale: float) -> Iterator[None]:
    """A large message asked for, and never taken."""
    declare(peer, "flood")
    peer.send(publish("", "flood", b"x" * 100_000))
    frames = method("basic.get", queue="flood") + method("basic.nack", requeue=True, multiple=True)
    block = frames * 500
    yield READY
    while not peer.over:
        peer.send_unread(block)
        yield


@flood
def purges(peer: Peer, scale: float) -> Iterator[None]:
    """A queue filled and purged."""
    declare(peer, "flood")
    filling = publish("", "flood") * 1000
    purge = method("queue.purge", queue="flood")
    yield READY
    while not peer.over:
        for _ in range(many(scale, 100)):
            peer.send(filling)
            yield
        peer.send(purge)


@flood
def deletes_of_full_queues(peer: Peer, scale: float) -> Iterator[None]:
    filling = publish("", "flood") * 1000
    delete = method("queue.delete", queue="flood")
    yield READY
    while not peer.over:
        peer.send(method("queue.declare", queue="flood", exclusive=True))
        for _ in range(many(scale, 100)):
            peer.send(filling)
            yield
        peer.send(delete)


def with_deliveries(peer: Peer, scale: float, last: bytes) -> Iterator[None]:
    """Many messages are delivered, then something is said about all of them."""
    declare(peer, "flood")
    for _ in range(many(scale, 200)):
        peer.tell_all([publish("", "flood") * 1000])
    peer.call("basic.consume", queue="flood")
    yield READY
    while not peer.over:
        peer.read_on()
        peer.send(last)
        yield


@flood
def requeues(peer: Peer, scale: float) -> Iterator[None]:
    """Hundreds of thousands of deliveries given back at once."""
    return with_deliveries(peer, scale, method("basic.nack", delivery_tag=0, multiple=True, requeue=True))


@flood
def recovers(peer: Peer, scale: float) -> Iterator[None]:
    return with_deliveries(peer, scale, method("basic.recover", requeue=True))


@flood
def requeues_by_closing(peer: Peer, scale: float) -> Iterator[None]:
    """Hundreds of thousands of deliveries given back by the end of their channel."""
    again = method("channel.close") + method("channel.open") + method("basic.consume", queue="flood")
    return with_deliveries(peer, scale, again)


@flood
def multiple_acks(peer: Peer, scale: float) -> Iterator[None]:
    """Hundreds of thousands of deliveries settled by one acknowledgement."""
    number = many(scale, 100)
    declare(peer, "flood")
    peer.call("basic.consume", queue="flood")
    filling = publish("", "flood") * 1000
    ack = method("basic.ack", delivery_tag=0, multiple=True)
    yield READY
    while not peer.over:
        for _ in range(number):
            peer.send(filling)
            yield
        peer.send(ack)


@flood
def single_acks(peer: Peer, scale: float) -> Iterator[None]:
    """Messages fetched and acknowledged one by one, in one breath."""
    declare(peer, "flood")
    peer.call("basic.qos", prefetch_count=10_000)
    peer.call("basic.consume", queue="flood")
    filling = publish("", "flood") * 1000
    tags = itertools.count(1)
    yield READY
    while not peer.over:
        peer.send(filling)
        peer.read_on()
        peer.send(b"".join(method("basic.ack", delivery_tag=next(tags)) for _ in range(1000)))
        yield


@flood
def transactions(peer: Peer, scale: float) -> Iterator[None]:
    declare(peer, "flood", **{"x-max-length": 100})
    peer.call("tx.select")
    return repeated(peer, publish("", "flood") + method("tx.commit"))


@flood
def large_transactions(peer: Peer, scale: float) -> Iterator[None]:
    """Tens of thousands of messages in one commit, or rolled back."""
    declare(peer, "flood", **{"x-max-length": 100})
    peer.call("tx.select")
    filling = publish("", "flood") * 1000
    ends = itertools.cycle([method("tx.commit"), method("tx.rollback")])
    yield READY
    while not peer.over:
        for _ in range(many(scale, 50)):
            peer.send(filling)
            yield
        peer.send(next(ends))


# -- routing


@flood
def one_key_many_queues(peer: Peer, scale: float) -> Iterator[None]:
    """Ten thousand queues bound with one key, and messages with that key."""
    name = exchange(peer, "direct")
    for frames in queues_bound(name, many(scale, 10_000), **{"x-max-length": 1}):
        peer.tell_all(frames)
    return repeated(peer, publish(name, "k"))


@flood
def ever_new_keys(peer: Peer, scale: float) -> Iterator[None]:
    """No two messages with the same routing key."""
    keys = itertools.count()
    yield READY
    while not peer.over:
        peer.send(b"".join(publish("amq.topic", f"{next(keys)}.b.c") for _ in range(500)))
        yield


@flood
def deep_topics(peer: Peer, scale: float) -> Iterator[None]:
    """Patterns of many `#`, and ever new keys of as many words as fit."""
    name = exchange(peer, "topic")
    declare(peer, "flood", **{"x-max-length": 10})
    letters = "abcd"
    patterns = [
        ".#.".join(("", *(letters[number >> 2 * place & 3] for place in range(6)), "")).strip(".")
        for number in range(many(scale, 2000))
    ]
    binding = [
        method("queue.bind", queue="flood", exchange=name, routing_key=pattern, nowait=True)
        for pattern in patterns
    ]
    peer.tell_all(binding)
    keys = itertools.count()
    tail = ".".join(itertools.islice(itertools.cycle(letters), 110))
    yield READY
    while not peer.over:
        peer.send(b"".join(publish(name, f"{next(keys)}.{tail}") for _ in range(10)))
        yield


@flood
def many_copies(peer: Peer, scale: float) -> Iterator[None]:
    """CC with as many keys as a header holds, no two alike, to an exchange of patterns."""
    name = exchange(peer, "topic")
    declare(peer, "flood", **{"x-max-length": 10})
    peer.tell_all(
        [
            method("queue.bind", queue="flood", exchange=name, routing_key=f"#.{word}.*.#", nowait=True)
            for word in range(many(scale, 500))
        ]
    )
    rounds = itertools.count()
    yield READY
    while not peer.over:
        number = next(rounds)
        keys = [f"{number}.{at}.a.b" for at in range(many(scale, 7000))]
        peer.send(publish(name, "k", b"", {"headers": {"CC": keys}}))
        yield


@flood
def headers_of_many_bindings(peer: Peer, scale: float) -> Iterator[None]:
    """Thousands of bindings on the same header, and messages of thousands of headers."""
    name = exchange(peer, "headers")
    for start in range(0, many(scale, 3000), 500):
        frames = []
        for at in range(start, start + 500):
            wanted = {"x-match": "all", "k0": 0, f"no{at}": 1}
            frames.append(declared_quietly(f"q{at}", **{"x-max-length": 1}))
            frames.append(method("queue.bind", queue=f"q{at}", exchange=name, arguments=wanted, nowait=True))
        peer.tell_all(frames)
    table = encode_table({f"k{number}": number for number in range(5000)})
    return repeated(peer, publish(name, "", b"", {"headers": table[4:]}))


@flood
def returns(peer: Peer, scale: float) -> Iterator[None]:
    """Mandatory messages that nobody takes, and that come back."""
    said = method("basic.publish", routing_key="nowhere", mandatory=True)
    return repeated(peer, said + header(1000) + body(b"x" * 1000))


@flood
def secrets(peer: Peer, scale: float) -> Iterator[None]:
    """The password said again and again."""
    return repeated(peer, method("connection.update-secret", 0, new_secret=b"guest", reason="why not"))


@flood
def confirms(peer: Peer, scale: float) -> Iterator[None]:
    """Persistent messages in confirm mode, without a look at the confirms."""
    peer.call("queue.declare", queue="flood-durable", durable=True, arguments={"x-max-length": 100})
    peer.call("confirm.select")
    with contextlib.suppress(OSError):
        yield from repeated(peer, publish("", "flood-durable", b"x", {"delivery_mode": 2}))


@flood
def garbage(peer: Peer, scale: float) -> Iterator[None]:
    """Connections that break the rules as soon as they are open."""
    wrong = itertools.cycle(
        [
            b"\x01\x00\x01\xff\xff\xff\xff",
            Frame(9, 1, b"abc").encoded(),
            b"\x01\x00\x01\x00\x00\x00\x00\x00",
            method("basic.publish") + body(b"x"),
            method("channel.open"),
            method("queue.declare", queue="x", arguments=b"\x01aZ"),
            method("basic.publish") + Frame(2, 1, struct.pack(">HHQH", 60, 0, 0, 0xFFFF)).encoded(),
        ]
    )
    said = opening()
    yield READY
    while not peer.over:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", peer.port), 10) as other:
            other.sendall(said + next(wrong))
            # Whether it hears a close-ok or not, the broker has more to do with the next one.
            other.recv(FRAME_MAX)
        yield
