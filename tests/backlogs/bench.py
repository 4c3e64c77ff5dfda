"""A broker of its own for one scenario, and the steps that scenarios are made of.

Filling, draining, ending and starting it, looking at another queue meanwhile: each step returns figures and raises
AssertionError if messages did not go the way they should. Knows nothing of what is compared with what.
"""

from __future__ import annotations

import select
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple, Self

from tests.backlogs.watch import Watch
from tests.backlogs.wire import Block, Chunk, Deliveries, Wire, method, publish
from tests.server.broker_process import BrokerProcess

# Messages in a block, also of a group of queues that are published to in turn; fewer large ones.
AT_ONCE: Final = 250
LARGE: Final = 8 << 10
LARGE_AT_ONCE: Final = 10
MEMORY: Final = 128 << 20
LEAST_MEMORY: Final = 64 << 10
# Of bodies that are not yet confirmed, or not yet acknowledged.
WINDOW_OCTETS: Final = 16 << 20
WINDOW: Final = 2000
PROBE: Final = "probe"
LEAST_PINGS: Final = 200


class Latency(NamedTuple):
    """From publishing to delivery, milliseconds."""

    middle: float
    high: float
    most: float


def latency_of(seconds: Sequence[float]) -> Latency:
    ordered = sorted(seconds)
    return Latency(*(1000 * ordered[int(share * (len(ordered) - 1))] for share in (0.5, 0.99, 1.0)))


class Order:
    """In which order messages must come that were published in blocks: `groups` of positions within a block.

    All of the first group come first, block by block, then all of the second. Whether they do is seen from the last
    octet of the block's number and from the position.
    """

    def __init__(self, groups: Sequence[bytes], blocks: int) -> None:
        numbers, positions = [], []
        for group in groups:
            turn = b"".join(bytes([number]) * len(group) for number in range(256))
            numbers.append((turn * (blocks // 256 + 1))[: blocks * len(group)])
            positions.append(group * blocks)
        self._numbers = b"".join(numbers)
        self._positions = b"".join(positions)
        self._at = 0

    def check(self, chunk: Chunk) -> None:
        end = self._at + chunk.size
        assert chunk.column(4) == self._positions[self._at : end], f"out of order near {self._at}"
        assert chunk.column(3) == self._numbers[self._at : end], f"out of order near {self._at}"
        self._at = end


class QueueOrders:
    """Several queues, told apart by their consumers' tags: each must give its messages by their numbers."""

    def __init__(self) -> None:
        self._next: dict[bytes, int] = {}

    def check(self, chunk: Chunk) -> None:
        following = self._next
        for tag, number in chunk.messages():
            assert number == following.get(tag, 0), f"{tag!r}: {number} instead of {following.get(tag, 0)}"
            following[tag] = number + 1


class Bench:
    """`with Bench(directory, scale) as bench`: a broker whose memory for messages is scaled as the backlogs are."""

    def __init__(self, directory: Path, scale: float) -> None:
        self.memory = max(LEAST_MEMORY, int(MEMORY * min(1.0, scale)))
        settings = directory / "broker.toml"
        settings.write_text(f"[limits]\nmessages_in_memory = {self.memory}\nconsumer_timeout = 0\n")
        self.broker = BrokerProcess(directory / "data", ["--config", str(settings), "--log-level", "warning"])
        self.watch = Watch(self.broker, idle=min(0.5, max(0.1, 30 * scale)))
        self._wires: list[Wire] = []

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._close()
        self.broker.kill()

    # -- the broker

    def start(self) -> float:
        """Seconds until the first handshake is done."""
        began = time.monotonic()
        self.broker.start()
        self.watch.follow()
        Wire(self.broker.port, self.watch.look).close()
        return time.monotonic() - began

    def restarts(self) -> tuple[float, float]:
        """Seconds that a start takes after the broker was asked to end, and after kill -9 of all of it."""
        self._close()
        assert self.broker.stop() == 0, self.broker.stderr()
        in_order = self.start()
        self.broker.kill()
        return in_order, self.start()

    def _close(self) -> None:
        for wire in self._wires:
            wire.close()
        self._wires = []

    def wire(self) -> Wire:
        self._wires.append(Wire(self.broker.port, self.watch.look))
        return self._wires[-1]

    # -- messages

    def fill(self, wire: Wire, blocks: Sequence[Block], messages: int, body: int) -> list[tuple[float, int]]:
        """Publish and wait for all confirms. `blocks` are sent in turn, and numbered by the turn."""
        window = max(4 * blocks[0].count, min(WINDOW, WINDOW_OCTETS // body))
        per_turn = sum(block.count for block in blocks)
        assert messages % per_turn == 0, f"{messages} messages are no multiple of {per_turn}"

        def numbered() -> Iterator[tuple[Block, int]]:
            for turn in range(messages // per_turn):
                for block in blocks:
                    yield block, turn

        return wire.fill(numbered(), window)

    def consume(self, wire: Wire, queues: Sequence[str], prefetch: int) -> Deliveries:
        """All consumers' tags are six octets long."""
        wire.call("basic.qos", prefetch_count=prefetch)
        wire.send(
            b"".join(
                method("basic.consume", queue=queue, consumer_tag=f"c{at:05}", nowait=True)
                for at, queue in enumerate(queues)
            )
        )
        return wire.reader()

    def drain(
        self, queues: Sequence[str], messages: int, body: int, check: Callable[[Chunk], None]
    ) -> list[tuple[float, int]]:
        """Take and acknowledge so many messages from all these queues together; when how many had come."""
        wire = self.wire()
        window = max(1, min(WINDOW, WINDOW_OCTETS // body))
        deliveries = self.consume(wire, queues, max(1, window // min(len(queues), 20)))
        times, acknowledged = [(time.monotonic(), 0)], 0
        while deliveries.taken < messages:
            check(deliveries.next())
            assert deliveries.taken <= messages, f"{deliveries.taken} messages instead of {messages}"
            if deliveries.taken - acknowledged >= window // 4 or deliveries.taken == messages:
                deliveries.acknowledge()
                acknowledged = deliveries.taken
                times.append((time.monotonic(), acknowledged))
        for queue in queues:
            assert wire.ready(queue) == 0, f"{queue} is not empty"
        wire.close()
        self._wires.remove(wire)
        return times

    # -- another queue

    def probe(self) -> Probe:
        return Probe(self.wire(), self.watch.look)


class Probe:
    """A queue of its own in which one message at a time is published and delivered."""

    def __init__(self, wire: Wire, look: Callable[[], None]) -> None:
        self._wire = wire
        self._look = look
        wire.call("queue.declare", queue=PROBE)
        wire.call("basic.consume", queue=PROBE, consumer_tag="probe", no_ack=True)
        self._message = publish("", PROBE, bytes(16), {})
        self._deliveries = wire.reader()

    def ping(self) -> float:
        """Seconds."""
        began = time.perf_counter()
        self._wire.send(self._message)
        assert self._deliveries.next().size == 1
        return time.perf_counter() - began

    def until(self, condition: Callable[[], bool], least: int = 1) -> list[float]:
        """The pings until the condition holds, so many at least."""
        pings: list[float] = []
        while not condition() or len(pings) < least:
            pings.append(self.ping())
            if len(pings) % 64 == 0:
                self._look()
        return pings


def answered(wire: Wire) -> bool:
    return bool(select.select([wire], [], [], 0)[0])


def rate(times: Sequence[tuple[float, int]], after: int = 0, before: int = 0) -> float:
    """Messages a second between the first `after` and the last `before` of them."""
    last = times[-1][1] - before
    begun = [at for at in times if at[1] <= after][-1]
    ended = next(at for at in times if at[1] >= last)
    return (ended[1] - begun[1]) / max(ended[0] - begun[0], 1e-9)


def declare(wire: Wire, queue: str, arguments: dict[str, Any]) -> None:
    wire.call("queue.declare", queue=queue, durable=True, arguments=arguments)
