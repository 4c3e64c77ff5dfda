"""Any order of publishes, deliveries, settlements, commits and crashes: sessions agree with the reference model.

Clients on pure sessions do at random what clients do, batches of the store are made durable at random moments, and
now and then everything is gone but what the store has. After every step the broker has to hold what the model
holds; each confirm has to come exactly when it may, each message where it is due, and what was confirmed and not
removed has to be there after every crash. AMQP_TEST_EXAMPLES is how many stories are tried, AMQP_TEST_STEPS how
long each one is at most.
"""

from __future__ import annotations

import os
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tests.examples import examples
from tests.property.model import NEVER, Entry, Held, ModelChannel, ModelConsumer, ModelQueue
from tests.session.world import Peer, Received, World, method

QUEUES = {"d": True, "e": True, "t": False}
EVERYWHERE = "all"
WORK = (1, 2)
TX = 3
ADMIN = 4
CONNECTIONS = 3
PICK = st.integers(0, 11)
FLAG = st.booleans()
ROUTES = st.sampled_from([["d"], ["e"], ["t"], ["d", "e", "t"], []])


class Client:
    """One connection as the model sees it."""

    def __init__(self, peer: Peer) -> None:
        self.peer = peer
        self.channels = {number: ModelChannel(number) for number in (*WORK, TX, ADMIN)}


class Sessions(RuleBasedStateMachine):
    """promised: bodies by queue name whose confirm or commit-ok came and that nobody has removed."""

    portion = 0

    def __init__(self) -> None:
        super().__init__()
        self.world = World(portion=self.portion)
        self.clients: list[Client] = []
        self.queues: dict[str, ModelQueue] = {}
        self.deleted: list[ModelQueue] = []
        self.committed = 0
        self.bodies = 0
        self.steps = 0
        self.disturbed = 0
        self.others: list[tuple[Client, Received]] = []
        self.returned: list[bytes] = []

    @initialize()
    def start(self) -> None:
        self.queues = {name: ModelQueue(name, durable, 0) for name, durable in QUEUES.items()}
        self.set_up()
        self.connect_all()

    def set_up(self) -> None:
        """Declare everything, as programs do when they start."""
        peer = self.world.connect()
        peer.send(1, "exchange.declare", exchange=EVERYWHERE, type="fanout", durable=True)
        for name, durable in QUEUES.items():
            peer.send(1, "queue.declare", queue=name, durable=durable)
            peer.send(1, "queue.bind", queue=name, exchange=EVERYWHERE)
        peer.send(0, "connection.close", reply_code=200)
        self.world.commit()
        self.committed = self.world.store.batch - 1

    # -- seeing what happened

    @property
    def batch(self) -> int:
        return self.world.store.batch

    def observe(self, *, in_turns: bool = True) -> None:
        """Judge all that came. in_turns: what was delivered came from the heads of the queues."""
        self.others, self.returned = [], []
        taken: dict[str, list[Entry]] = {}
        for client in self.clients:
            for item in client.peer.take():
                if item.name == "basic.deliver":
                    entry = self.delivered(client, item)
                    taken.setdefault(entry.queue.name, []).append(entry)
                elif item.name == "basic.ack":
                    self.confirmed(client.channels[item.channel], item)
                elif item.name == "basic.return":
                    self.returned.append(item.body)
                else:
                    self.others.append((client, item))
        for name, entries in taken.items():
            queue = self.queues[name]
            if in_turns:
                queue.check_taken(entries)
            for entry in entries:
                queue.ready.remove(entry)

    def delivered(self, client: Client, item: Received) -> Entry:
        channel = client.channels[item.channel]
        consumer = channel.consumers[item.consumer_tag]
        queue = consumer.queue
        entry = self.entry_of(queue, item)
        assert consumer.has_room(), f"{entry} came to a consumer that is full"
        if consumer.no_ack:
            queue.remove(entry, self.batch)
            return entry
        assert item.delivery_tag not in channel.unacked
        channel.unacked[item.delivery_tag] = Held(entry, consumer)
        consumer.unacked += 1
        channel.prefetched += 1
        queue.unacked += 1
        if entry.came != NEVER:
            queue.marks.append((self.batch, entry.position))
        return entry

    def entry_of(self, queue: ModelQueue, item: Received) -> Entry:
        found = [entry for entry in queue.ready if entry.body == item.body]
        assert found, f"{item.body!r} is not ready in {queue.name}"
        entry = found[0]
        assert item.redelivered == entry.redelivered, f"{entry}: redelivered is {item.redelivered}"
        return entry

    def confirmed(self, channel: ModelChannel, item: Received) -> None:
        assert item.delivery_tag > channel.confirmed, "a confirm came twice"
        assert item.multiple or item.delivery_tag == channel.confirmed + 1
        channel.confirmed = item.delivery_tag

    def only_reply(self, client: Client, channel: int) -> Received:
        """The one thing that came besides deliveries, confirms and returns."""
        assert len(self.others) == 1, self.others
        owner, item = self.others[0]
        assert owner is client
        assert item.channel == channel
        return item

    # -- choosing

    def client(self, pick: int) -> Client:
        return self.clients[pick % len(self.clients)]

    def working(self, pick: int) -> tuple[Client, ModelChannel]:
        client = self.client(pick)
        return client, client.channels[WORK[pick // CONNECTIONS % 2]]

    def idle(self, pick: int, number: int) -> tuple[Client, ModelChannel] | None:
        """A channel of this number on which no reply is due."""
        client = self.client(pick)
        channel = client.channels[number]
        return None if channel.waiting is not None else (client, channel)

    def new_body(self) -> bytes:
        self.bodies += 1
        return b"%d" % self.bodies

    def calm(self, steps: int) -> bool:
        """Whether nothing ended for so long, so that there is time for something to happen in between."""
        return self.steps - self.disturbed >= steps

    # -- connections and channels

    def connect_all(self) -> None:
        while len(self.clients) < CONNECTIONS:
            peer = self.world.connect(channels=4)
            peer.send(TX, "tx.select").take()
            self.clients.append(Client(peer))

    @precondition(lambda self: self.calm(6))
    @rule(pick=PICK, politely=FLAG)
    def disconnect(self, pick: int, politely: bool) -> None:
        """A connection ends, and the program makes a new one."""
        self.disturbed = self.steps
        client = self.client(pick)
        self.clients.remove(client)
        if politely:
            client.peer.send(0, "connection.close", reply_code=200)
            # A reply that waits for the disk goes first.
            last = [item.name for item in client.peer.take()][-1:]
            assert last == ["connection.close-ok"] or client.peer.connection.awaited
            client.peer.connection.lost()
        else:
            client.peer.lose()
        for channel in client.channels.values():
            self.channel_ended(channel)
        self.observe(in_turns=False)
        self.connect_all()

    @precondition(lambda self: self.calm(3))
    @rule(pick=PICK, fails=FLAG)
    def close_channel(self, pick: int, fails: bool) -> None:
        self.disturbed = self.steps
        client, channel = self.working(pick)
        self.channel_ended(channel)
        if fails:
            client.peer.send(channel.number, "queue.declare", queue="nothing", passive=True)
            self.observe()
            assert self.only_reply(client, channel.number).name == "channel.close"
            client.peer.publish(channel.number, "d", b"too late", persistent=True)
            client.peer.send(channel.number, "channel.close-ok")
        else:
            client.peer.send(channel.number, "channel.close", reply_code=200)
            self.observe()
            assert self.only_reply(client, channel.number).name == "channel.close-ok"
        client.channels[channel.number] = ModelChannel(channel.number)
        client.peer.send(channel.number, "channel.open")
        self.observe()
        assert self.only_reply(client, channel.number).name == "channel.open-ok"

    def channel_ended(self, channel: ModelChannel) -> None:
        for consumer in channel.consumers.values():
            consumer.queue.consumers.remove(consumer)
        channel.consumers.clear()
        settled = [held for _, held, _ in channel.held_settlements]
        self.give_back([*channel.unacked.values(), *settled])

    def give_back(self, all_held: list[Held]) -> None:
        for held in all_held:
            held.entry.queue.give_back([held.entry])

    # -- publishing

    @rule(pick=PICK)
    def confirm_select(self, pick: int) -> None:
        client, channel = self.working(pick)
        client.peer.send(channel.number, "confirm.select")
        channel.confirm_mode = True
        self.observe()
        assert self.only_reply(client, channel.number).name == "confirm.select-ok"

    @rule(pick=PICK, count=st.integers(1, 8), persistent=FLAG)
    def publish_everywhere(self, pick: int, count: int, persistent: bool) -> None:
        self.publish(pick, ["d", "e", "t"], persistent, mandatory=True, count=count)

    @rule(pick=PICK, routes=ROUTES, persistent=FLAG, mandatory=FLAG, count=st.integers(1, 3))
    def publish_somewhere(
        self, pick: int, routes: list[str], persistent: bool, mandatory: bool, count: int
    ) -> None:
        self.publish(pick, routes, persistent, mandatory, count)

    def publish(self, pick: int, routes: list[str], persistent: bool, mandatory: bool, count: int) -> None:
        client, channel = self.working(pick)
        bodies = [self.new_body() for _ in range(count)]
        for body in bodies:
            self.model_publish(channel, routes, body, persistent)
            self.send_publish(client, channel, routes, body, persistent, mandatory)
            self.observe()
            assert self.returned == ([body] if mandatory and not routes else [])
            assert not self.others

    def send_publish(
        self,
        client: Client,
        channel: ModelChannel,
        routes: list[str],
        body: bytes,
        persistent: bool,
        mandatory: bool,
    ) -> None:
        exchange = EVERYWHERE if len(routes) > 1 else ""
        key = routes[0] if routes else "nowhere"
        client.peer.publish(
            channel.number, key, body, exchange=exchange, persistent=persistent, mandatory=mandatory
        )

    def model_publish(self, channel: ModelChannel, routes: list[str], body: bytes, persistent: bool) -> None:
        for name in routes:
            self.queues[name].publish(body, persistent, self.batch)
        if channel.confirm_mode:
            durable = persistent and any(QUEUES[name] for name in routes)
            channel.confirms.append((body, self.batch if durable else 0))

    # -- consuming

    @rule(
        pick=PICK,
        name=st.sampled_from(sorted(QUEUES)),
        tag=st.sampled_from("ab"),
        prefetch=st.sampled_from([0, 1, 2, 5]),
        no_ack=FLAG,
    )
    def consume(self, pick: int, name: str, tag: str, prefetch: int, no_ack: bool) -> None:
        client, channel = self.working(pick)
        if tag in channel.consumers:
            return
        client.peer.send(channel.number, "basic.qos", prefetch_count=prefetch)
        self.observe()
        queue = self.queues[name]
        consumer = ModelConsumer(channel, tag, queue, prefetch, no_ack)
        channel.consumers[tag] = consumer
        queue.consumers.append(consumer)
        client.peer.send(channel.number, "basic.consume", queue=name, consumer_tag=tag, no_ack=no_ack)
        self.observe()
        assert self.only_reply(client, channel.number).name == "basic.consume-ok"

    @rule(pick=PICK, tag=st.sampled_from("ab"))
    def cancel(self, pick: int, tag: str) -> None:
        client, channel = self.working(pick)
        consumer = channel.consumers.pop(tag, None)
        if consumer is not None:
            consumer.queue.consumers.remove(consumer)
        client.peer.send(channel.number, "basic.cancel", consumer_tag=tag)
        self.observe()
        assert self.only_reply(client, channel.number).name == "basic.cancel-ok"

    @rule(pick=PICK, name=st.sampled_from(sorted(QUEUES)), tag=st.sampled_from("ab"), no_ack=FLAG)
    def consume_elsewhere(self, pick: int, name: str, tag: str, no_ack: bool) -> None:
        """A tag that is free again may be used at once, what its last bearer holds being unsettled."""
        self.cancel(pick, tag)
        self.consume(pick, name, tag, prefetch=1, no_ack=no_ack)

    @rule(pick=PICK, limit=st.integers(0, 3))
    def limit_the_channel(self, pick: int, limit: int) -> None:
        client, channel = self.working(pick)
        channel.shared_prefetch = limit
        client.peer.send(channel.number, "basic.qos", prefetch_count=limit, global_=True)
        self.observe()
        assert self.only_reply(client, channel.number).name == "basic.qos-ok"

    @rule(pick=PICK, name=st.sampled_from(sorted(QUEUES)), no_ack=FLAG)
    def get(self, pick: int, name: str, no_ack: bool) -> None:
        client, channel = self.working(pick)
        self.get_on(client, channel, name, no_ack)

    def get_on(self, client: Client, channel: ModelChannel, name: str, no_ack: bool) -> None:
        queue = self.queues[name]
        client.peer.send(channel.number, "basic.get", queue=name, no_ack=no_ack)
        self.observe()
        item = self.only_reply(client, channel.number)
        if not queue.ready:
            assert item.name == "basic.get-empty"
            return
        assert item.name == "basic.get-ok", f"{queue.ready} are ready"
        entry = self.entry_of(queue, item)
        queue.check_taken([entry])
        queue.take(entry, self.batch, marked=True)
        assert item.message_count == len(queue.ready)
        if no_ack:
            queue.remove(entry, self.batch)
        else:
            queue.unacked += 1
            channel.unacked[item.delivery_tag] = Held(entry, None)

    # -- settling

    @rule(pick=PICK, choice=PICK)
    def acknowledge(self, pick: int, choice: int) -> None:
        self.settle(pick, choice, multiple=True, how="ack", requeue=False)

    @rule(pick=PICK, choice=PICK, multiple=FLAG, how=st.sampled_from(["ack", "nack", "reject"]), requeue=FLAG)
    def settle_somehow(self, pick: int, choice: int, multiple: bool, how: str, requeue: bool) -> None:
        self.settle(pick, choice, multiple, how, requeue)

    def settle(self, pick: int, choice: int, multiple: bool, how: str, requeue: bool) -> None:
        client, channel = self.working(pick)
        if not channel.unacked:
            return
        tags = sorted(channel.unacked)
        tag = tags[choice % len(tags)]
        multiple = multiple and how != "reject"
        settled = [channel.unacked.pop(each) for each in tags if each == tag or (multiple and each < tag)]
        for held in settled:
            channel.release(held)
        if how != "ack" and requeue:
            self.give_back(settled)
        else:
            self.settled_for_good(settled)
        self.send_settlement(client, channel, tag, multiple, how, requeue)
        self.observe()
        assert not self.others

    def settled_for_good(self, settled: list[Held]) -> None:
        for held in settled:
            held.entry.queue.unacked -= 1
            held.entry.queue.remove(held.entry, self.batch)

    def send_settlement(
        self, client: Client, channel: ModelChannel, tag: int, multiple: bool, how: str, requeue: bool
    ) -> None:
        arguments: dict[str, Any] = {"delivery_tag": tag}
        if how != "reject":
            arguments["multiple"] = multiple
        if how != "ack":
            arguments["requeue"] = requeue
        client.peer.send(channel.number, "basic." + how, **arguments)

    @rule(pick=PICK)
    def recover(self, pick: int) -> None:
        client, channel = self.working(pick)
        all_held = list(channel.unacked.values())
        channel.unacked.clear()
        for held in all_held:
            channel.release(held)
        self.give_back(all_held)
        client.peer.send(channel.number, "basic.recover", requeue=True)
        self.observe()
        assert self.only_reply(client, channel.number).name == "basic.recover-ok"

    # -- transactions: publishes and settlements of what was got

    @rule(pick=PICK, routes=ROUTES, persistent=FLAG)
    def tx_publish(self, pick: int, routes: list[str], persistent: bool) -> None:
        chosen = self.idle(pick, TX)
        if chosen is None:
            return
        client, channel = chosen
        body = self.new_body()
        channel.held_publishes.append((routes, body, persistent))
        self.send_publish(client, channel, routes, body, persistent, mandatory=False)
        self.observe()
        assert not self.others

    @rule(
        pick=PICK, name=st.sampled_from(sorted(QUEUES)), how=st.sampled_from(["", "ack", "reject", "requeue"])
    )
    def tx_take(self, pick: int, name: str, how: str) -> None:
        """Get a message within a transaction, and perhaps settle it at once."""
        chosen = self.idle(pick, TX)
        if chosen is not None:
            self.get_on(*chosen, name, no_ack=False)
            if how:
                self.tx_settle(*chosen, -1, how)

    @rule(pick=PICK, choice=PICK, how=st.sampled_from(["ack", "reject", "requeue"]))
    def tx_settle_later(self, pick: int, choice: int, how: str) -> None:
        chosen = self.idle(pick, TX)
        if chosen is not None:
            self.tx_settle(*chosen, choice, how)

    def tx_settle(self, client: Client, channel: ModelChannel, choice: int, how: str) -> None:
        if not channel.unacked:
            return
        tags = sorted(channel.unacked)
        tag = tags[choice % len(tags)]
        channel.held_settlements.append((tag, channel.unacked.pop(tag), how))
        method = "ack" if how == "ack" else "reject"
        self.send_settlement(client, channel, tag, multiple=False, how=method, requeue=how == "requeue")
        self.observe()
        assert not self.others

    @precondition(lambda self: self.calm(3))
    @rule(pick=PICK)
    def tx_close(self, pick: int) -> None:
        """The channel of a transaction ends, with whatever was settled in it."""
        chosen = self.idle(pick, TX)
        if chosen is None:
            return
        self.disturbed = self.steps
        client, channel = chosen
        self.channel_ended(channel)
        client.peer.send(TX, "channel.close", reply_code=200)
        self.observe()
        assert self.only_reply(client, TX).name == "channel.close-ok"
        client.channels[TX] = ModelChannel(TX)
        client.peer.send(TX, "channel.open").send(TX, "tx.select")
        self.observe()
        assert [item.name for _, item in self.others] == ["channel.open-ok", "tx.select-ok"]

    @rule(pick=PICK)
    def tx_commit(self, pick: int) -> None:
        chosen = self.idle(pick, TX)
        if chosen is None:
            return
        client, channel = chosen
        self.settled_for_good([held for _, held, how in channel.held_settlements if how != "requeue"])
        self.give_back([held for _, held, how in channel.held_settlements if how == "requeue"])
        for routes, body, persistent in channel.held_publishes:
            for name in routes:
                # Routed to names: a queue that was declared again meanwhile takes the message of the one deleted.
                self.queues[name].publish(body, persistent, self.batch)
        channel.held_settlements, channel.held_publishes = [], []
        channel.waiting = (self.batch, "tx.commit-ok")
        client.peer.send(TX, "tx.commit")
        self.observe()
        assert not self.others

    @rule(pick=PICK)
    def tx_rollback(self, pick: int) -> None:
        chosen = self.idle(pick, TX)
        if chosen is None:
            return
        client, channel = chosen
        for tag, held, _ in channel.held_settlements:
            channel.unacked[tag] = held
        channel.held_settlements, channel.held_publishes = [], []
        client.peer.send(TX, "tx.rollback")
        self.observe()
        assert self.only_reply(client, TX).name == "tx.rollback-ok"

    # -- queues

    @precondition(lambda self: self.calm(3))
    @rule(pick=PICK, name=st.sampled_from(sorted(QUEUES)))
    def purge(self, pick: int, name: str) -> None:
        chosen = self.idle(pick, ADMIN)
        if chosen is None:
            return
        self.disturbed = self.steps
        client, channel = chosen
        queue = self.queues[name]
        count = len(queue.ready)
        for entry in queue.ready:
            queue.remove(entry, self.batch)
        queue.ready.clear()
        client.peer.send(ADMIN, "queue.purge", queue=name)
        self.observe()
        if queue.durable:
            assert not self.others
            channel.waiting = (self.batch, "queue.purge-ok")
        else:
            assert self.only_reply(client, ADMIN).message_count == count

    @precondition(lambda self: self.calm(8))
    @rule(pick=PICK, name=st.sampled_from(sorted(QUEUES)))
    def delete_and_declare_again(self, pick: int, name: str) -> None:
        chosen = self.idle(pick, ADMIN)
        if chosen is None:
            return
        self.disturbed = self.steps
        client, channel = chosen
        old = self.queues[name]
        old.deleted = self.batch
        self.deleted.append(old)
        expected = sorted(consumer.tag for consumer in old.consumers)
        for consumer in old.consumers:
            del consumer.channel.consumers[consumer.tag]
        self.queues[name] = ModelQueue(name, QUEUES[name], self.batch)
        self.say_at_once(client, name)
        self.observe()
        cancels = [item.arguments["consumer_tag"] for _, item in self.others if item.name == "basic.cancel"]
        assert sorted(cancels) == expected
        if QUEUES[name]:
            assert len(self.others) == len(cancels)
            channel.waiting = (self.batch, "queue.bind-ok")

    def say_at_once(self, client: Client, name: str) -> None:
        """Delete, declare and bind in one turn, so that no crash comes between."""
        octets = method(ADMIN, "queue.delete", queue=name, nowait=True)
        octets += method(ADMIN, "queue.declare", queue=name, durable=QUEUES[name], nowait=True)
        client.peer.say(octets + method(ADMIN, "queue.bind", queue=name, exchange=EVERYWHERE))

    # -- the store

    @rule()
    def seal(self) -> None:
        self.world.store.seal()

    @rule()
    def make_durable(self) -> None:
        """As the server does whenever it has nothing else to do."""
        self.world.store.seal()
        while self.world.store.sealed:
            self.commit_oldest()

    @precondition(lambda self: self.world.store.sealed)
    @rule()
    def commit_oldest(self) -> None:
        self.committed = self.world.store.sealed[0].number
        self.world.commit_oldest()
        self.observe()
        due = self.replies_due()
        came = [(id(client), item.channel, item.name) for client, item in self.others]
        assert sorted(came) == sorted(due)

    def replies_due(self) -> list[tuple[int, int, str]]:
        """Replies that waited for a batch that is durable now; their channels are free again."""
        due = []
        for client in self.clients:
            for channel in client.channels.values():
                if channel.waiting is not None and channel.waiting[0] <= self.committed:
                    due.append((id(client), channel.number, channel.waiting[1]))
                    channel.waiting = None
        return due

    @precondition(lambda self: self.calm(8))
    @rule(written=st.integers(0, 3))
    def crash(self, written: int) -> None:
        """Only the store is left, and of what was on its way to the disk some."""
        self.disturbed = self.steps
        store = self.world.store
        promised = self.promised()
        durable = self.committed
        for changes in store.sealed[:written]:
            durable = changes.number
        found = {name: self.incarnation(name, durable) for name in QUEUES}
        self.queues = {name: queue.after_crash(durable) for name, queue in found.items()}
        for name, bodies in promised.items():
            assert bodies <= {entry.body for entry in self.queues[name].ready}, "a promise was not kept"
        self.clients, self.deleted = [], []
        self.world = World(store.survivor(written), portion=self.portion)
        self.set_up()
        self.connect_all()

    def incarnation(self, name: str, durable: int) -> ModelQueue:
        """The queue of this name that the store had when this batch was durable."""
        candidates = [queue for queue in [*self.deleted, self.queues[name]] if queue.name == name]
        if not QUEUES[name]:
            return ModelQueue(name, durable=False, made=0)
        return next(queue for queue in candidates if queue.made <= durable < queue.deleted)

    def promised(self) -> dict[str, set[bytes]]:
        """Persistent messages in durable queues that were confirmed and that nobody removed."""
        confirmed = {
            body
            for client in self.clients
            for channel in client.channels.values()
            for body, _ in channel.confirms[: channel.confirmed]
        }
        return {
            name: {
                entry.body
                for entry in queue.entries
                if entry.body in confirmed and entry.came != NEVER and entry.gone == NEVER
            }
            for name, queue in self.queues.items()
        }

    # -- what holds after every step

    @invariant()
    def time_passes(self) -> None:
        self.steps += 1

    @invariant()
    def the_broker_holds_what_the_model_holds(self) -> None:
        for name, queue in self.queues.items():
            found = self.world.queue(name).statistics()
            expected = (len(queue.ready), queue.unacked, len(queue.consumers))
            assert (found.ready, found.unacked, found.consumers) == expected, name

    @invariant()
    def no_consumer_with_room_waits_while_messages_are_ready(self) -> None:
        for queue in self.queues.values():
            if queue.ready:
                assert not any(consumer.has_room() for consumer in queue.consumers), queue.name

    @invariant()
    def confirms_came_when_they_were_due(self) -> None:
        for client in self.clients:
            for channel in client.channels.values():
                assert channel.confirmed == channel.expected_confirmed(self.committed)

    @invariant()
    def the_disk_holds_what_the_model_says(self) -> None:
        for name, durable in QUEUES.items():
            if not durable or not self.queues:
                continue
            queue = self.incarnation(name, self.committed)
            expected = [entry.body for entry in queue.entries if entry.came <= self.committed < entry.gone]
            definitions = self.world.store.disk.definitions.values()
            store_id = next(value["store_id"] for value in definitions if value.get("name") == name)
            assert isinstance(store_id, int)
            assert self.world.store.stored(store_id) == expected, name


TestSessions = Sessions.TestCase
TestSessions.settings = settings(
    max_examples=examples(150),
    stateful_step_count=int(os.environ.get("AMQP_TEST_STEPS", "50")),
    deadline=None,
    report_multiple_bugs=False,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)


class SessionsInPortions(Sessions):
    """The same where whatever concerns more than one delivery takes several turns."""

    portion = 1


TestSessionsInPortions = SessionsInPortions.TestCase
TestSessionsInPortions.settings = settings(
    max_examples=examples(50),
    stateful_step_count=int(os.environ.get("AMQP_TEST_STEPS", "50")),
    deadline=None,
    report_multiple_bugs=False,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
