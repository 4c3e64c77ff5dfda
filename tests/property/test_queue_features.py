"""Any order of publishes, deaths, settlements, waits and crashes: queues with features do what the model foretells.

Beside `test_sessions`, which is about who gets what when; here each queue has one consumer at most, and what is tried
is what happens to messages that live too long, do not fit, are rejected or come back. AMQP_TEST_EXAMPLES and
AMQP_TEST_STEPS are as there.
"""

from __future__ import annotations

import os
from copy import deepcopy
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tests.examples import examples
from tests.property.feature_model import NEVER, Model, Rules
from tests.session.world import World

RULES = {
    "limited": Rules(length=3, octets=12, dead_letters="limited.dead"),
    "refusing": Rules(length=2, octets=9, refuses=True),
    "ranked": Rules(priorities=3, length=4, dead_letters="ranked.dead"),
    "brief": Rules(ttl=100, dead_letters="brief.dead"),
    "counted": Rules(delivery_limit=2, ttl=500, dead_letters="counted.dead"),
    "limited.dead": Rules(),
    "ranked.dead": Rules(priorities=2),
    "brief.dead": Rules(length=2, dead_letters="last"),
    "counted.dead": Rules(refuses=True, length=2),
    "last": Rules(),
}
SOURCES = ("limited", "refusing", "ranked", "brief", "counted")
EVERYWHERE = "all"
PUBLISH, CONSUME, GET = 1, 2, 3
NAME = st.sampled_from([*SOURCES, *RULES])
PICK = st.integers(0, 11)


class QueueFeatures(RuleBasedStateMachine):
    """outcomes: of each publish since the last start, in order, as foretold; answered: what was said of each.

    sealed: the model as it was when each batch that is on its way was sealed; durable: when the last that arrived was.
    """

    portion = 0

    def __init__(self) -> None:
        super().__init__()
        self.model = Model(RULES, 1000)
        self.sealed: list[Model] = []
        self.durable = self.model
        self.world = World(portion=self.portion)
        self.bodies = 0

    @initialize()
    def start(self) -> None:
        self.connect()
        self.peer.send(PUBLISH, "exchange.declare", exchange=EVERYWHERE, type="fanout", durable=True)
        for name, rules in RULES.items():
            self.peer.send(PUBLISH, "queue.declare", queue=name, durable=True, arguments=rules.arguments())
            if name in SOURCES:
                self.peer.send(PUBLISH, "queue.bind", queue=name, exchange=EVERYWHERE)
        self.world.commit()
        assert len(self.peer.take()) == 1 + len(RULES) + len(SOURCES)
        self.peer.send(PUBLISH, "confirm.select").take()
        self.durable = deepcopy(self.model)

    def connect(self) -> None:
        """After a start: nothing is out, and nothing was published."""
        self.world.broker.clock.milliseconds = self.model.now
        self.world.broker.timetable.run_due()
        self.peer = self.world.connect(channels=3)
        self.consumed: dict[int, tuple[str, bytes]] = {}
        self.got: dict[int, tuple[str, bytes]] = {}
        self.consumers: dict[str, str] = {}
        self.outcomes: list[str] = []
        self.answered: list[str] = []

    def observe(self) -> list[Any]:
        """Compare what was delivered with what was foretold; returns everything but deliveries and confirms."""
        delivered, others = [], []
        for item in self.peer.take():
            if item.name == "basic.deliver":
                queue = self.consumers[item.consumer_tag]
                delivered.append((queue, item.body, item.redelivered))
                self.consumed[item.delivery_tag] = (queue, item.body)
            elif item.name in ("basic.ack", "basic.nack"):
                name = item.name.removeprefix("basic.")
                self.answered += [name] * (item.delivery_tag - len(self.answered))
            else:
                others.append(item)
        foretold, self.model.due = self.model.due, []
        for name in RULES:
            assert [each for each in delivered if each[0] == name] == [
                each for each in foretold if each[0] == name
            ]
        return others

    # -- publishing

    @rule(
        name=st.sampled_from([*SOURCES, *SOURCES, EVERYWHERE, EVERYWHERE]),
        persistent=st.sampled_from([True, True, False]),
        priority=st.integers(0, 4),
        expiration=st.sampled_from([NEVER, NEVER, 0, 50, 300]),
        padding=st.sampled_from([0, 0, 4]),
        count=st.integers(1, 3),
    )
    def publish(
        self, name: str, persistent: bool, priority: int, expiration: int, padding: int, count: int
    ) -> None:
        properties: dict[str, Any] = {"priority": priority}
        if expiration != NEVER:
            properties["expiration"] = str(expiration)
        for _ in range(count):
            self.bodies += 1
            body = b"%d" % self.bodies + b"." * padding
            targets = SOURCES if name == EVERYWHERE else (name,)
            taken = [
                self.model.queues[target].publish(body, persistent, priority, expiration)
                for target in targets
            ]
            self.outcomes.append("ack" if all(taken) else "nack")
            exchange, key = (name, "") if name == EVERYWHERE else ("", name)
            self.peer.publish(PUBLISH, key, body, exchange=exchange, persistent=persistent, **properties)
            assert self.observe() == []
        # What may not wait and was not taken is gone when the turn is over.
        self.wait(0)

    # -- taking

    @rule(name=NAME, prefetch=st.integers(1, 3))
    def consume(self, name: str, prefetch: int) -> None:
        if name in self.consumers.values():
            return
        tag = f"{name} {self.bodies}"
        self.peer.send(CONSUME, "basic.qos", prefetch_count=prefetch).take()
        self.consumers[tag] = name
        queue = self.model.queues[name]
        queue.prefetch = prefetch
        queue.pump()
        self.peer.send(CONSUME, "basic.consume", queue=name, consumer_tag=tag)
        (reply,) = self.observe()
        assert reply.name == "basic.consume-ok"

    @rule(name=NAME, no_ack=st.booleans())
    def get(self, name: str, no_ack: bool) -> None:
        copy = self.model.queues[name].get()
        self.peer.send(GET, "basic.get", queue=name, no_ack=no_ack)
        (reply,) = self.observe()
        if copy is None:
            assert reply.name == "basic.get-empty"
            return
        assert (reply.name, reply.body, reply.redelivered) == ("basic.get-ok", copy.body, copy.deliveries > 0)
        assert reply.message_count == len(self.model.queues[name].ready)
        if no_ack:
            self.model.queues[name].taken(copy.body, consumed=False)
        else:
            self.got[reply.delivery_tag] = (name, copy.body)

    @rule(name=NAME, times=st.integers(1, 4))
    def bounce(self, name: str, times: int) -> None:
        """One message, or one after another, is got and given back again and again."""
        for _ in range(times):
            before = len(self.got)
            self.get(name, no_ack=False)
            if len(self.got) > before:
                self.settle(GET, self.got, len(self.got) - 1, "requeue")

    @rule(name=NAME)
    def drain(self, name: str) -> None:
        while self.model.queues[name].ready:
            self.get(name, no_ack=True)

    # -- settling

    @rule(pick=PICK, how=st.sampled_from(["ack", "reject", "requeue"]))
    def settle_delivery(self, pick: int, how: str) -> None:
        self.settle(CONSUME, self.consumed, pick, how)

    @rule(pick=PICK, how=st.sampled_from(["ack", "reject", "requeue", "requeue"]))
    def settle_what_was_got(self, pick: int, how: str) -> None:
        self.settle(GET, self.got, pick, how)

    def settle(self, channel: int, out: dict[int, tuple[str, bytes]], pick: int, how: str) -> None:
        if not out:
            return
        tag = sorted(out)[pick % len(out)]
        name, body = out.pop(tag)
        queue = self.model.queues[name]
        copy = queue.taken(body, consumed=channel == CONSUME)
        if how == "requeue":
            queue.requeue([copy])
        else:
            if how == "reject":
                queue.die(copy)
            queue.pump()
        if how == "ack":
            self.peer.send(channel, "basic.ack", delivery_tag=tag)
        else:
            self.peer.send(channel, "basic.reject", delivery_tag=tag, requeue=how == "requeue")
        assert self.observe() == []

    @rule(channel=st.sampled_from([CONSUME, GET]))
    def close_channel(self, channel: int) -> None:
        """Everything that was out on it comes back, each queue's in one go."""
        out = self.consumed if channel == CONSUME else self.got
        back: dict[str, list[bytes]] = {}
        for _, (name, body) in sorted(out.items()):
            back.setdefault(name, []).append(body)
        out.clear()
        if channel == CONSUME:
            self.consumers.clear()
            for queue in self.model.queues.values():
                queue.prefetch = 0
        for name, bodies in back.items():
            queue = self.model.queues[name]
            copies = [queue.taken(body, consumed=channel == CONSUME) for body in bodies]
            queue.requeue(sorted(copies, key=lambda copy: copy.seq))
        self.peer.send(channel, "channel.close", reply_code=200)
        assert [item.name for item in self.observe()] == ["channel.close-ok"]
        assert self.peer.reply(channel, "channel.open").name == "channel.open-ok"

    @rule(name=NAME)
    def purge(self, name: str) -> None:
        self.model.queues[name].ready.clear()
        self.peer.send(CONSUME, "queue.purge", queue=name, nowait=True)
        assert self.observe() == []

    # -- time and the disk

    @rule(milliseconds=st.sampled_from([1, 49, 50, 100, 1000]))
    def wait(self, milliseconds: int) -> None:
        self.model.pass_time(milliseconds)
        self.world.broker.clock.milliseconds = self.model.now
        self.world.broker.timetable.run_due()
        self.world.end_turn()
        assert self.observe() == []

    @rule()
    def seal(self) -> None:
        if self.world.store.seal():
            self.sealed.append(deepcopy(self.model))

    @precondition(lambda self: self.sealed)
    @rule()
    def commit_oldest(self) -> None:
        self.durable = self.sealed.pop(0)
        self.world.commit_oldest()
        assert self.observe() == []

    @rule()
    def make_durable(self) -> None:
        """Everything is on the disk, and every publish was answered as foretold."""
        self.seal()
        while self.sealed:
            self.commit_oldest()
        assert self.answered == self.outcomes

    @rule(written=st.integers(0, 3), down=st.sampled_from([0, 60, 1000]))
    def crash(self, written: int, down: int) -> None:
        survives = [self.durable, *self.sealed[:written]][-1]
        self.model = survives.after_crash(self.model.now + down)
        self.sealed = []
        self.world = World(self.world.store.survivor(written), portion=self.portion)
        self.connect()
        self.peer.send(PUBLISH, "confirm.select").take()
        # The deaths of the first turn are durable before anything else happens, so that what they left is known.
        self.make_durable()
        self.durable = deepcopy(self.model)

    def teardown(self) -> None:
        """At the end everything is got, after a crash of which nothing was lost."""
        if "last" in self.world.vhost.queues:
            self.make_durable()
            self.crash(0, 0)
            for name in RULES:
                self.drain(name)

    # -- what holds after every step

    @invariant()
    def the_broker_holds_what_the_model_holds(self) -> None:
        for name, queue in self.model.queues.items():
            if name not in self.world.vhost.queues:
                return
            found = self.world.queue(name)
            statistics = found.statistics()
            out = len(queue.consumed) + len(queue.got)
            assert (statistics.ready, found.ready_bytes, statistics.unacked) == (
                len(queue.ready),
                queue.octets(),
                out,
            ), name

    @invariant()
    def the_disk_holds_what_was_durable(self) -> None:
        ids = {
            value["name"]: value["store_id"]
            for value in self.world.store.disk.definitions.values()
            if value.get("name") in RULES
        }
        for name, store_id in ids.items():
            assert isinstance(store_id, int)
            assert self.world.store.stored(store_id) == self.durable.queues[str(name)].stored(), name


TestQueueFeatures = QueueFeatures.TestCase
TestQueueFeatures.settings = settings(
    max_examples=examples(100),
    stateful_step_count=int(os.environ.get("AMQP_TEST_STEPS", "40")),
    deadline=None,
    report_multiple_bugs=False,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)


class QueueFeaturesInPortions(QueueFeatures):
    """The same where whatever concerns more than one delivery takes several turns."""

    portion = 1


TestQueueFeaturesInPortions = QueueFeaturesInPortions.TestCase
TestQueueFeaturesInPortions.settings = settings(
    max_examples=examples(30),
    stateful_step_count=int(os.environ.get("AMQP_TEST_STEPS", "40")),
    deadline=None,
    report_multiple_bugs=False,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
