"""Any order of deliveries, settlements, commits, rollbacks and leases that run out: no message is lost or doubled.

Two channels have transactions open all the time, a third has none. The model knows of every delivery whether a lease
took it from its channel, and so which settlements count; a queue has to hold exactly what was published and not settled
for good. AMQP_TEST_EXAMPLES is how many stories are tried.
"""

from __future__ import annotations

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from tests.examples import examples
from tests.session.world import Received, World, message

LEASE = 1000
START = 1_700_000_000_000
IN_TRANSACTION = (1, 2)
CHANNELS = (1, 2, 3)
ADMIN = 4
CHANNEL = st.sampled_from(CHANNELS)
PICK = st.integers(0, 9)
ACK, REQUEUE, REJECT = "ack", "requeue", "reject"


class Delivery:
    """due: when its lease ends. how: it was settled in a transaction that is open; else None."""

    def __init__(self, body: bytes, due: int) -> None:
        self.body = body
        self.due = due
        self.how: str | None = None


class LeasesInTransactions(RuleBasedStateMachine):
    """out: what each channel has, by tag. lapsed: tags that leases took and that were not settled since."""

    def __init__(self) -> None:
        super().__init__()
        self.world = World()
        self.world.broker.clock.milliseconds = START
        self.peer = self.world.connect(channels=ADMIN)
        self.now = START
        self.published = 0
        self.alive: set[bytes] = set()
        self.out: dict[int, dict[int, Delivery]] = {channel: {} for channel in CHANNELS}
        self.lapsed: dict[int, set[int]] = {channel: set() for channel in CHANNELS}

    @initialize(kind=st.sampled_from(["classic", "quorum"]), prefetch=st.integers(0, 3), delay=st.booleans())
    def start(self, kind: str, prefetch: int, delay: bool) -> None:
        arguments = {"x-consumer-timeout": LEASE, "x-queue-type": kind}
        if delay:
            arguments["x-delayed-retry-min"] = LEASE // 2
        self.peer.send(ADMIN, "queue.declare", queue="q", durable=True, arguments=arguments)
        for channel in CHANNELS:
            self.begin(channel)
        for channel in CHANNELS[1:]:
            self.peer.send(channel, "basic.qos", prefetch_count=prefetch)
            self.peer.send(channel, "basic.consume", queue="q", consumer_tag="c")
        self.world.commit()
        self.peer.take()

    def begin(self, channel: int) -> None:
        if channel in IN_TRANSACTION:
            self.peer.send(channel, "tx.select")

    # -- seeing what happened

    def observe(self) -> list[Received]:
        """Note what was delivered; returns the rest."""
        others = []
        for item in self.peer.take():
            if item.name in ("basic.deliver", "basic.get-ok"):
                held = [delivery.body for out in self.out.values() for delivery in out.values()]
                assert item.body in self.alive, "it was settled for good"
                assert item.body not in held, "somebody has it"
                self.out[item.channel][item.delivery_tag] = Delivery(item.body, self.now + LEASE)
            else:
                others.append(item)
        return others

    def settled(self, delivery: Delivery, how: str) -> None:
        if how != REQUEUE:
            self.alive.remove(delivery.body)

    # -- what happens

    @rule(count=st.integers(1, 4))
    def publish(self, count: int) -> None:
        for _ in range(count):
            body = b"%d" % self.published
            self.published += 1
            self.alive.add(body)
            self.peer.say(message(ADMIN, "q", body, persistent=True))
            assert self.observe() == []

    @rule(channel=CHANNEL)
    def get(self, channel: int) -> None:
        self.peer.send(channel, "basic.get", queue="q")
        assert [item.name for item in self.observe()] in ([], ["basic.get-empty"])

    @rule(channel=CHANNEL, pick=PICK, how=st.sampled_from([ACK, REQUEUE, REJECT]), multiple=st.booleans())
    def settle(self, channel: int, pick: int, how: str, multiple: bool) -> None:
        """What is settled may have been lost to a lease, which the client cannot know."""
        out, lapsed = self.out[channel], self.lapsed[channel]
        known = sorted([tag for tag in out if out[tag].how is None] + list(lapsed))
        if not known:
            return
        tag = known[pick % len(known)]
        multiple = multiple and how != REJECT
        meant = [other for other in known if other in out and (other == tag or (multiple and other < tag))]
        lapsed.discard(tag)
        gone = [out[other] for other in meant]
        for other in meant:
            if channel in IN_TRANSACTION:
                out[other].how = how
            else:
                self.settled(out.pop(other), how)
        if how == ACK:
            self.peer.send(channel, "basic.ack", delivery_tag=tag, multiple=multiple)
        elif how == REQUEUE:
            self.peer.send(channel, "basic.nack", delivery_tag=tag, multiple=multiple, requeue=True)
        else:
            self.peer.send(channel, "basic.reject", delivery_tag=tag, requeue=False)
        assert self.observe() == [], gone

    @rule(channel=CHANNEL)
    def recover(self, channel: int) -> None:
        """All that a transaction has not settled comes back."""
        out = self.out[channel]
        self.out[channel] = {tag: delivery for tag, delivery in out.items() if delivery.how is not None}
        self.peer.send(channel, "basic.recover", requeue=True)
        assert [item.name for item in self.observe()] == ["basic.recover-ok"]

    @rule(channel=st.sampled_from(IN_TRANSACTION))
    def commit(self, channel: int) -> None:
        out = self.out[channel]
        self.out[channel] = {tag: delivery for tag, delivery in out.items() if delivery.how is None}
        for delivery in out.values():
            if delivery.how is not None:
                self.settled(delivery, delivery.how)
        self.peer.send(channel, "tx.commit")
        self.world.commit()
        assert [item.name for item in self.observe()] == ["tx.commit-ok"]

    @rule(channel=st.sampled_from(IN_TRANSACTION))
    def roll_back(self, channel: int) -> None:
        for delivery in self.out[channel].values():
            delivery.how = None
        self.peer.send(channel, "tx.rollback")
        assert [item.name for item in self.observe()] == ["tx.rollback-ok"]

    @rule(milliseconds=st.sampled_from([1, LEASE // 3, LEASE // 2, LEASE - 1, LEASE, 3 * LEASE]))
    def pass_time(self, milliseconds: int) -> None:
        self.now += milliseconds
        for channel, out in self.out.items():
            for tag, delivery in list(out.items()):
                if delivery.due > self.now:
                    continue
                if delivery.how is None:
                    del out[tag]
                    self.lapsed[channel].add(tag)
                else:
                    delivery.due = self.now + LEASE
        self.world.broker.clock.milliseconds = self.now
        self.world.broker.timetable.run_due()
        self.world.end_turn()
        assert self.observe() == []

    @rule(channel=CHANNEL)
    def close_and_open(self, channel: int) -> None:
        """What the channel had goes back, also what an open transaction had settled."""
        self.out[channel], self.lapsed[channel] = {}, set()
        self.peer.send(channel, "channel.close", reply_code=200)
        self.peer.send(channel, "channel.open")
        self.begin(channel)
        names = [item.name for item in self.observe()]
        assert names[:2] == ["channel.close-ok", "channel.open-ok"]

    # -- what holds after every step

    @invariant()
    def every_message_is_in_one_place(self) -> None:
        if "q" not in self.world.vhost.queues:
            return
        found = self.world.queue("q").statistics()
        out = sum(len(out) for out in self.out.values())
        assert found.unacked == out
        assert found.ready + found.delayed + found.unacked == len(self.alive)

    def teardown(self) -> None:
        """Everything is got at the end: once as a crash leaves it, once when the channels have closed."""
        if "q" not in self.world.vhost.queues:
            return
        self.world.commit()
        assert drained(World(self.world.store.survivor())) == sorted(self.alive)
        self.peer.lose()
        self.world.broker.clock.milliseconds += LEASE * 100
        self.world.broker.timetable.run_due()
        assert drained(self.world) == sorted(self.alive)


def drained(world: World) -> list[bytes]:
    peer = world.connect()
    bodies = []
    while (item := peer.reply(1, "basic.get", queue="q", no_ack=True)).name == "basic.get-ok":
        bodies.append(item.body)
    return sorted(bodies)


TestLeasesInTransactions = LeasesInTransactions.TestCase
TestLeasesInTransactions.settings = settings(
    max_examples=examples(100),
    stateful_step_count=40,
    deadline=None,
    report_multiple_bugs=False,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
