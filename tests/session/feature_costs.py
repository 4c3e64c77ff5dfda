"""What each feature of queues and exchanges costs a message: `python -m tests.session.feature_costs`.

Publishes through one connection and consumes through another, in one process, without sockets and without a disk,
and prints a Markdown table: the processor time of publishing, of what happens in between, and of delivery with
acknowledgement. Each case says what it is to be compared with. Every run checks that the messages went the way
that its case is about. It judges no figure: how to read them stands in docs/performance.md.
"""

from __future__ import annotations

import argparse
import gc
from collections.abc import Callable
from functools import cache
from itertools import pairwise
from random import Random
from time import process_time_ns
from typing import Any, Final, NamedTuple, cast

from amqp_broker.build_info import version_line
from amqp_broker.server.garbage import Garbage
from amqp_broker.store.memory import MemoryStore
from tests.broker.ledger_store import LedgerStore
from tests.session.world import Peer, World, message

MESSAGES: Final = 20_000
RUNS: Final = 7
BODY: Final = b"x" * 100
# Messages in one read, and deliveries settled by one acknowledgement.
AT_ONCE: Final = 100
PREFETCH: Final = 1000
# What a queue holds when it is full.
LIMIT: Final = 1000
NOW: Final = 1_700_000_000_000
MINUTE: Final = 60_000
PRIORITIES: Final = Random(1).choices(range(11), k=997)

Table = dict[str, Any]


# -- messages, by number


def bare(number: int) -> Table:
    return {}


def same_priority(number: int) -> Table:
    return {"priority": 5}


def random_priority(number: int) -> Table:
    return {"priority": PRIORITIES[number % len(PRIORITIES)]}


def expiring(number: int) -> Table:
    return {"expiration": str(MINUTE)}


def persistent(number: int) -> Table:
    return {"persistent": True}


def own_value(number: int) -> Table:
    return {"headers": {"x-deduplication-header": f"order {number}"}}


def same_value(number: int) -> Table:
    return {"headers": {"x-deduplication-header": "order 0"}}


def delayed(number: int) -> Table:
    return {"headers": {"x-delay": MINUTE - 1000 * (number % 50)}}


def one_of_ten(number: int) -> Table:
    return {"headers": {"tenth": number % 10}}


def one_key(number: int) -> str:
    """That of the first queue."""
    return "q0"


def ten_keys(number: int) -> str:
    return f"measured.{number % 10}"


@cache
def reads(
    exchange: str, key: Callable[[int], str], properties: Callable[[int], Table], count: int
) -> list[bytes]:
    """So many publishes, as they are received."""
    octets = [message(1, key(each), BODY, exchange=exchange, **properties(each)) for each in range(count)]
    return [b"".join(octets[start : start + AT_ONCE]) for start in range(0, count, AT_ONCE)]


# -- the broker


class Client(Peer):
    """quiet: what comes is thrown away, as if a socket had taken it."""

    quiet = False

    def take_output(self) -> None:
        if not self.quiet:
            super().take_output()
            return
        output = self.connection.output
        if output:
            b"".join(output)
            output.clear()
            self.connection.sent(self.connection.output_size, self.world.now)


class Bench(World):
    """A broker with what a case declares: queues q0, q1, ..., an exchange x, and a queue for dead letters.

    What is put in the store is durable at the end of the turn.
    """

    def __init__(self, case: Case) -> None:
        self.memory = MemoryStore()
        # All that a world asks of its store itself, beside handing it to the broker, is done by `end_turn` here.
        super().__init__(cast(LedgerStore, self.memory))
        self.case = case
        self.names = [f"q{number}" for number in range(case.queues)]
        self.broker.clock.milliseconds = NOW
        self.publisher = self.dial()
        self.consumer = self.dial()
        for client in (self.publisher, self.consumer):
            client.handshake()
        self.declare()
        for client in (self.publisher, self.consumer):
            client.quiet = True

    def dial(self, *, from_loopback: bool = True) -> Client:
        client = Client(self, from_loopback)
        self.peers.append(client)
        return client

    def end_turn(self) -> None:
        super().end_turn()
        batch = self.memory.seal()
        if batch is not None:
            self.memory.committed(batch.number)
            super().end_turn()

    def declare(self) -> None:
        case, peer = self.case, self.publisher
        peer.send(1, "queue.declare", queue="dead")
        for name in self.names:
            peer.send(1, "queue.declare", queue=name, durable=case.durable, arguments=case.queue)
        if case.exchange:
            arguments = case.exchange_arguments
            peer.send(1, "exchange.declare", exchange="x", type=case.exchange, arguments=arguments)
            for number, name in enumerate(self.names):
                key, arguments = case.binding.format(number), {"tenth": number}
                peer.send(1, "queue.bind", queue=name, exchange="x", routing_key=key, arguments=arguments)
        answers = set(peer.names())
        assert answers <= {"exchange.declare-ok", "queue.declare-ok", "queue.bind-ok"}, answers

    # -- what happens to messages

    def publish(self, octets: list[bytes]) -> None:
        for read in octets:
            self.publisher.say(read)

    def consume(self, *names: str) -> None:
        self.consumer.send(1, "basic.qos", prefetch_count=PREFETCH // len(names))
        for name in names:
            self.consumer.send(1, "basic.consume", queue=name, consumer_tag=name)

    def cancel(self, *names: str) -> None:
        for name in names:
            self.consumer.send(1, "basic.cancel", consumer_tag=name)

    def settle(self, name: str, at_once: int = AT_ONCE, **arguments: bool) -> bool:
        """Settle so many deliveries by one method; False if there are none."""
        channel = self.consumer.connection.channels[1]
        if not channel.unacked:
            return False
        tag = min(channel.first_unacked - 1 + at_once, channel.delivery_tag)
        self.consumer.send(1, name, delivery_tag=tag, multiple=True, **arguments)
        return True

    def run_due(self) -> None:
        """What is due happens, in as many turns as it takes."""
        timetable = self.broker.timetable
        while timetable.next_due and timetable.next_due <= self.broker.clock.milliseconds:
            timetable.run_due()
            self.end_turn()

    # -- what happened

    def deliveries(self) -> int:
        return self.consumer.connection.channels[1].delivery_tag

    def held(self) -> tuple[int, int]:
        """Messages in the queues q0, q1, ...; messages elsewhere, or not settled."""
        queues = [self.queue(name) for name in self.names]
        ready = sum(queue.ready_count() for queue in queues)
        others = self.queue("dead").statistics()
        return ready, others.ready + others.unacked + sum(queue.unacked for queue in queues)


# -- what may happen between publishing and delivery


def a_minute_passes(bench: Bench) -> None:
    bench.broker.clock.milliseconds += MINUTE
    bench.run_due()


def all_are_rejected(bench: Bench) -> None:
    bench.consume(*bench.names)
    while bench.settle("basic.nack"):
        pass
    bench.cancel(*bench.names)


def all_wait_for_a_retry(bench: Bench) -> None:
    bench.consume(*bench.names)
    while bench.settle("basic.nack", requeue=True):
        pass
    bench.cancel(*bench.names)
    a_minute_passes(bench)


# -- delivery


def acknowledged(bench: Bench) -> None:
    bench.consume(*bench.names)
    while bench.settle("basic.ack"):
        pass


def dead_letters_acknowledged(bench: Bench) -> None:
    bench.consume("dead")
    while bench.settle("basic.ack"):
        pass


def acknowledged_the_second_time(bench: Bench) -> None:
    """As many as the prefetch allows come back together, and are then acknowledged together."""
    bench.consume(*bench.names)
    while bench.settle("basic.nack", at_once=PREFETCH, requeue=True):
        bench.settle("basic.ack", at_once=PREFETCH)


# -- the cases


class Case(NamedTuple):
    """name: of its row; base: of the row it is compared with. queue: the arguments of its queues.

    exchange: the type of the exchange that is published to, "" for the default exchange; binding: the key of each
    queue's binding, with the queue's number in it. full: LIMIT messages are there before. between, then: what
    happens after publishing. deliveries: for each message. left: how many messages the queues hold at the end.
    """

    name: str
    base: str = "plain"
    queue: Table = {}
    properties: Callable[[int], Table] = bare
    key: Callable[[int], str] = one_key
    exchange: str = ""
    exchange_arguments: Table = {}
    queues: int = 1
    binding: str = "q{}"
    durable: bool = False
    full: bool = False
    between: Callable[[Bench], None] | None = None
    then: Callable[[Bench], None] | None = acknowledged
    deliveries: int = 1
    left: int = 0


TO_DEAD: Final = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": "dead"}
TTL: Final = {"x-message-ttl": MINUTE}
NEVER_FULL: Final = {"x-max-length": 1_000_000_000}
FULL: Final = {"x-max-length": LIMIT}
REJECT: Final = {"x-overflow": "reject-publish"}
LIMITED: Final = {"x-delivery-limit": 5}
ONCE: Final = {"x-message-deduplication": True}

TWICE: Final = Case("delivered twice", then=acknowledged_the_second_time, deliveries=2)
DURABLE: Final = Case("durable queue, persistent messages", durable=True, properties=persistent)
OWN_VALUE: Final = Case("a header of its own for each message", properties=own_value)
DIRECT: Final = Case("`direct`", exchange="direct")
TEN: Final = Case("`direct`, ten queues", exchange="direct", queues=10, key=ten_keys, binding="measured.{}")
NOT_DELIVERED: Final = Case("", then=None, deliveries=0)

CASES: Final = [
    Case("plain"),
    Case("`x-max-priority` 10, one priority", queue={"x-max-priority": 10}, properties=same_priority),
    Case(
        "`x-max-priority` 10, priorities by chance", queue={"x-max-priority": 10}, properties=random_priority
    ),
    Case("`x-message-ttl`", queue=TTL),
    Case("`expiration`", properties=expiring),
    NOT_DELIVERED._replace(name="`x-message-ttl`, expired", queue=TTL, between=a_minute_passes),
    Case("`x-max-length`, not reached", queue=NEVER_FULL),
    NOT_DELIVERED._replace(name="`x-max-length`, reached", queue=FULL, full=True, left=LIMIT),
    Case("`reject-publish`, not reached", queue=NEVER_FULL | REJECT),
    NOT_DELIVERED._replace(name="`reject-publish`, reached", queue=FULL | REJECT, full=True, left=LIMIT),
    NOT_DELIVERED._replace(name="rejected by the consumer", between=all_are_rejected, deliveries=1),
    Case(
        "dead letters: rejected",
        queue=TO_DEAD,
        between=all_are_rejected,
        then=dead_letters_acknowledged,
        deliveries=2,
    ),
    Case(
        "dead letters: expired", queue=TO_DEAD | TTL, between=a_minute_passes, then=dead_letters_acknowledged
    ),
    Case("dead letters: maxlen", queue=TO_DEAD | FULL, full=True, then=dead_letters_acknowledged, left=LIMIT),
    Case("`x-delivery-limit`", queue=LIMITED),
    TWICE,
    TWICE._replace(name="`x-delivery-limit`, delivered twice", base=TWICE.name, queue=LIMITED),
    TWICE._replace(
        name="delayed retry",
        base=TWICE.name,
        queue={"x-delayed-retry-min": MINUTE},
        between=all_wait_for_a_retry,
        then=acknowledged,
    ),
    Case("`x-consumer-timeout`", queue={"x-consumer-timeout": MINUTE}),
    Case("`x-single-active-consumer`", queue={"x-single-active-consumer": True}),
    DURABLE,
    DURABLE._replace(name="quorum queue", base=DURABLE.name, queue={"x-queue-type": "quorum"}),
    OWN_VALUE,
    OWN_VALUE._replace(name="deduplication by the queue", base=OWN_VALUE.name, queue=ONCE),
    OWN_VALUE._replace(
        name="deduplication by the queue, `x-cache-size` 10,000",
        base=OWN_VALUE.name,
        queue=ONCE | {"x-cache-size": 10_000},
    ),
    NOT_DELIVERED._replace(
        name="duplicates, kept out by the queue", queue=ONCE, properties=same_value, left=1
    ),
    OWN_VALUE._replace(
        name="deduplication by the exchange",
        base=OWN_VALUE.name,
        exchange="direct",
        exchange_arguments=ONCE,
    ),
    NOT_DELIVERED._replace(
        name="duplicates, kept out by the exchange",
        exchange="direct",
        exchange_arguments=ONCE,
        properties=same_value,
        left=1,
    ),
    DIRECT,
    DIRECT._replace(name="`fanout`", base=DIRECT.name, exchange="fanout"),
    DIRECT._replace(name="`x-recent-history`", base=DIRECT.name, exchange="x-recent-history"),
    DIRECT._replace(
        name="`x-delayed-message`, without a delay",
        base=DIRECT.name,
        exchange="x-delayed-message",
        exchange_arguments={"x-delayed-type": "direct"},
    ),
    DIRECT._replace(
        name="`x-delayed-message`, delayed",
        base=DIRECT.name,
        exchange="x-delayed-message",
        exchange_arguments={"x-delayed-type": "direct"},
        properties=delayed,
        between=a_minute_passes,
    ),
    TEN,
    TEN._replace(name="`topic`, ten queues", base=TEN.name, exchange="topic", binding="*.{}"),
    TEN._replace(name="`headers`, ten queues", base=TEN.name, exchange="headers", properties=one_of_ten),
    TEN._replace(
        name="`x-consistent-hash`, ten queues", base=TEN.name, exchange="x-consistent-hash", binding="1"
    ),
    TEN._replace(name="`x-modulus-hash`, ten queues", base=TEN.name, exchange="x-modulus-hash"),
    TEN._replace(name="`x-random`, ten queues", base=TEN.name, exchange="x-random"),
]


# -- measuring


class Cost(NamedTuple):
    """Nanoseconds of processor time for each message published; None for what does not happen to it."""

    publish: float
    between: float | None
    delivery: float | None

    def together(self) -> float:
        return self.publish + (self.between or 0.0) + (self.delivery or 0.0)


def measured(case: Case, count: int) -> Cost:
    """One run. AssertionError if the messages went another way than they should."""
    octets = reads("x" if case.exchange else "", case.key, case.properties, count)
    bench = Bench(case)
    if case.full:
        bench.publish(reads("", one_key, bare, LIMIT))
    steps: list[int] = [process_time_ns()]
    bench.publish(octets)
    for step in (case.between, case.then):
        steps.append(process_time_ns())
        if step is not None:
            step(bench)
    steps.append(process_time_ns())
    went = (bench.deliveries(), *bench.held())
    assert went == (case.deliveries * count, case.left, 0), f"{case.name}: {went}"
    publish, between, delivery = [(after - before) / count for before, after in pairwise(steps)]
    return Cost(publish, between if case.between else None, delivery if case.then else None)


def best(costs: list[Cost]) -> Cost:
    """The least of each step."""
    publish, between, delivery = zip(*costs, strict=True)
    return Cost(
        min(publish),
        None if between[0] is None else min(between),
        None if delivery[0] is None else min(delivery),
    )


def measure(count: int, runs: int) -> dict[str, Cost]:
    """The best of some runs for each case, by name.

    A run of each case comes before the next run of any, each time in another order: a run finds the memory as those
    before it left it.
    """
    order, shuffle = list(CASES), Random(1).shuffle
    found: dict[str, list[Cost]] = {case.name: [] for case in CASES}
    garbage = Garbage()
    for case in CASES:
        measured(case, AT_ONCE)
    garbage.take_over()
    try:
        for _ in range(runs):
            shuffle(order)
            for case in order:
                found[case.name].append(measured(case, count))
                gc.collect()
    finally:
        garbage.give_back()
    return {name: best(costs) for name, costs in found.items()}


def table(costs: dict[str, Cost]) -> str:
    """In Markdown: the figures in nanoseconds, rounded to ten."""
    lines = [
        "| | publish | in between | deliver, ack | together | difference | compared with |",
        "|---|---|---|---|---|---|---|",
    ]
    for case in CASES:
        cost = costs[case.name]
        figures = [rounded(figure) for figure in (*cost, cost.together())]
        compared = ["", ""]
        if case.name != case.base:
            base = costs[case.base].together()
            compared = [f"{100 * (cost.together() - base) / base:+.0f}%", case.base]
        lines.append(f"| {' | '.join([case.name, *figures, *compared])} |")
    return "\n".join(lines)


def rounded(figure: float | None) -> str:
    return "" if figure is None else f"{round(figure, -1):,.0f}"


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Measure what each feature of queues and exchanges costs.")
    parser.add_argument("--messages", type=int, default=MESSAGES, help="published for each figure")
    parser.add_argument("--runs", type=int, default=RUNS, help="of which the best counts")
    options = parser.parse_args(arguments)
    print(version_line())
    print()
    print(table(measure(options.messages, options.runs)))


if __name__ == "__main__":
    main()
