"""A whole broker in this process, the clients that talk to it, and the steps that a story is made of.

A `Story` is all that happens to one broker, as data: replaying it gives the same output, octet for octet, as nothing
in a `House` is left to chance. Whatever the broker does wrong comes out as an exception: its own, or `Illegal`.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final, NamedTuple

from amqp_broker.broker.access import Permission, User
from amqp_broker.broker.memory import Memory
from amqp_broker.broker.passwords import hash_password
from amqp_broker.session.connection import Connection
from amqp_broker.session.handshake import RUNNING
from tests.fuzz import ledger
from tests.fuzz.judge import Illegal, Judge
from tests.fuzz.operations import OPERATIONS
from tests.fuzz.phrases import PROTOCOL_HEADER, frame, method
from tests.fuzz.service import Service
from tests.fuzz.speech import ChannelView, Voice
from tests.fuzz.values import U16, U32, U64, Values, long, short
from tests.session.world import World

NEIGHBOUR: Final = b"neighbour"
# Frames after which a connection may have to let others have their turn.
FEW_FRAMES: Final = 3


class Step(NamedTuple):
    """do: a method of House. peer: whose. octets: said. cuts: where they are split. number: what else it takes."""

    do: str
    peer: int = 0
    octets: bytes = b""
    cuts: tuple[int, ...] = ()
    number: int = 0


class Story(NamedTuple):
    """shape: what the broker is set to, by number. steps: in order."""

    shape: int
    steps: tuple[Step, ...]

    def to_json(self) -> dict[str, Any]:
        return {
            "shape": self.shape,
            "steps": [
                [each.do, each.peer, each.octets.hex(), list(each.cuts), each.number] for each in self.steps
            ],
        }

    @staticmethod
    def from_json(value: dict[str, Any]) -> Story:
        steps = (
            Step(do, peer, bytes.fromhex(said), tuple(cuts), number)
            for do, peer, said, cuts, number in value["steps"]
        )
        return Story(value["shape"], tuple(steps))


@contextmanager
def no_chance(seed: int) -> Iterator[None]:
    """The names and draws that the broker makes up are the same each time."""
    system, state = os.urandom, random.getstate()
    os.urandom = random.Random(seed).randbytes
    random.seed(seed)
    try:
        yield
    finally:
        os.urandom = system
        random.setstate(state)


class Guest:
    """One client's end: what it was told, and what of its own the broker does not read at the moment."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.judge = Judge()
        self.said: list[bytes] = []
        self.stuck = False
        self.gone = False
        self.unread = b""


class House:
    """clients: by number. inputs that come for a connection that is gone are nobody's."""

    def __init__(self, shape: int, connection: Callable[..., Connection] = Connection) -> None:
        draw = random.Random(shape)
        self.world = World()
        self.broker = self.world.broker
        self.vhost = self.world.vhost
        self.other = self.broker.add_vhost("other")
        self.broker.add_vhost("nobody's")
        self.rights = Permission(".*", ".*", ".*")
        self.broker.permit(self.world.guest, "other", Permission(".*", "^q", ".*"))
        self.broker.add_user(User("neighbour", hash_password("neighbour"), []))
        self.broker.permit(self.broker.users["neighbour"], "/", Permission(".*", ".*", ".*"))
        settings = self.world.settings
        settings.max_message_size = draw.choice((1 << 27, 100_000, 1000))
        settings.high_water = draw.choice((1 << 20, 30_000, 2000))
        settings.low_water = settings.high_water // 4
        settings.consumer_max = draw.choice((0, 0, 3))
        settings.ignore_deaths = draw.random() < 0.2
        settings.frame_max = draw.choice((131072, 131072, 131072, 8192, 0))
        settings.channel_max = draw.choice((2047, 2047, 0, 7))
        settings.node_limits.channels = draw.choice((0, 0, 0, 12))
        self._asked_for_time = 0
        self._few_frames = draw.random() < 0.3
        settings.clock = self._time_in_turn
        self.service = Service(self)
        if draw.random() < 0.3:
            settings.authenticator = self.service
        settings.portion = draw.choice((1000, 2))
        self.memory = Memory(self.broker, 4000)
        self._connection = connection
        self.clients: dict[int, Guest] = {}
        self.tags = 0
        self.set_clock()
        self.neighbour = self._open_neighbour()

    # -- steps

    def furnish(self, step: Step) -> None:
        """Queues, exchanges and bindings are there, with arguments of all sorts; a mistake costs its channel alone."""
        values = Values(random.Random(step.number))
        settings = self.world.settings
        highest, settings.channel_max = settings.channel_max, 2047
        guest = self._enter(b"neighbour")
        settings.channel_max = highest
        voice, view = Voice(values), ChannelView()
        plan = (
            ["queue.declare"] * 12 + ["exchange.declare"] * 14 + ["queue.bind"] * 14 + ["exchange.bind"] * 3
        )
        for number, name in enumerate(plan, 1):
            said = method(number, "channel.open", b"\0") + voice.method(number, view, name).octets
            self._receive(guest.connection, said)
            self.settle(step)
        guest.connection.lost()
        self.commit(step)

    def dial(self, step: Step) -> None:
        name = f"192.0.2.{step.peer}:{step.number} -> 127.0.0.1:5672"
        world = self.world
        connection = self._connection(self.broker, world.settings, world.turn, name, True, world.now)
        self.clients[step.peer] = Guest(connection)

    def say(self, step: Step) -> None:
        """Octets arrive, in pieces, within one turn."""
        client = self.clients.get(step.peer)
        if client is None or client.gone or client.connection.finished:
            return
        if self._unheard(client):
            client.unread += step.octets
            return
        at = 0
        for cut in (*step.cuts, len(step.octets)):
            if cut > at:
                self._receive(client.connection, step.octets[at:cut])
                at = cut

    def settle(self, step: Step) -> None:
        """The turn ends: what there is to send goes out."""
        world = self.world
        while True:
            self.broker.chores.finish()
            dirty = world.turn.settle()
            for client in [*self.clients.values(), self.neighbour]:
                if client.connection in dirty:
                    self._take_output(client)
            if not world.turn.dirty and not len(self.broker.chores):
                return

    def commit(self, step: Step) -> None:
        self.world.store.commit()
        self.settle(step)

    def seal(self, step: Step) -> None:
        self.world.store.seal()

    def commit_oldest(self, step: Step) -> None:
        if self.world.store.sealed:
            self.world.store.commit_oldest()
            self.settle(step)

    def pass_time(self, step: Step) -> None:
        """number: milliseconds."""
        self.world.now += step.number / 1000
        self.set_clock()
        self.broker.timetable.run_due()
        for client in [*self.clients.values(), self.neighbour]:
            client.connection.tick(self.world.now)
        self.settle(step)

    def lose(self, step: Step) -> None:
        client = self.clients.get(step.peer)
        if client is not None:
            client.connection.lost()
            client.gone = True
            self.settle(step)

    def stick(self, step: Step) -> None:
        if step.peer in self.clients:
            self.clients[step.peer].stuck = True

    def flow(self, step: Step) -> None:
        client = self.clients.get(step.peer)
        if client is not None and client.stuck:
            client.stuck = False
            self._take_output(client)
            self.settle(step)
            self._catch_up()

    def alarm(self, step: Step) -> None:
        if not self.broker.alarms:
            self.broker.alarms.append("low on memory")
            for client in [*self.clients.values(), self.neighbour]:
                client.connection.alarm_begins()

    def all_clear(self, step: Step) -> None:
        self.broker.alarms.clear()
        for client in [*self.clients.values(), self.neighbour]:
            client.connection.alarm_cleared()
        self.settle(step)
        self._catch_up()

    def relieve(self, step: Step) -> None:
        """Messages leave memory."""
        self.memory.relieve()

    def answer(self, step: Step) -> None:
        """The service that some wait for says something."""
        if self.service.waiting:
            self.service.answer(random.Random(step.number))
        self.settle(step)
        self._catch_up()

    def operate(self, step: Step) -> None:
        """An administrator changes something. number: what."""
        OPERATIONS[step.number % len(OPERATIONS)](self, random.Random(step.number))
        self.settle(step)

    def check(self, step: Step) -> None:
        everybody = [client.connection for client in (*self.clients.values(), self.neighbour)]
        ledger.check(self.broker, everybody)

    def work(self, step: Step) -> None:
        """The neighbour declares, publishes, consumes and confirms, as if nobody else were there."""
        if self.broker.alarms:
            self.all_clear(step)
        neighbour = self.neighbour
        self.tags += 1
        body = b"%d" % self.tags
        said = method(1, "queue.declare", b"\0\0" + short(NEIGHBOUR) + b"\x02\0\0\0\0")
        said += method(1, "basic.publish", b"\0\0\0" + short(NEIGHBOUR) + b"\x01")
        said += frame(2, 1, b"\0\x3c\0\0" + U64(len(body)) + b"\x10\0\2") + frame(3, 1, body)
        self._hear(neighbour, said)
        self.commit(step)
        heard = neighbour.judge.take()
        delivered = [each for each in heard if each.name == "basic.deliver"]
        if len(delivered) != 1 or bytes(b"".join(neighbour.said)).count(b"\x03\0\1\0\0\0") != 1:
            raise Illegal(f"the neighbour published one message and heard {heard}")
        tag = delivered[0].arguments["delivery_tag"]
        neighbour.said.clear()
        self._hear(neighbour, method(1, "basic.ack", U64(tag) + b"\0"))
        names = sorted(each.name for each in (*heard, *neighbour.judge.take()))
        if names != ["basic.ack", "basic.deliver", "queue.declare-ok"]:
            raise Illegal(f"the neighbour worked and heard {names}")

    def finish(self, step: Step) -> None:
        """Everybody goes, and the books have to balance, here and after a restart."""
        for number in list(self.clients):
            self.flow(Step("flow", number))
        self.work(step)
        for client in (*self.clients.values(), self.neighbour):
            client.connection.lost()
            client.gone = True
        self.settle(step)
        self.commit(step)
        ledger.check_deserted(self.broker)
        ledger.check_restart(self.broker, self.world.store)

    # -- what the steps are made of

    def set_clock(self) -> None:
        self.broker.clock.milliseconds = int(self.world.now * 1000) + 1_700_000_000_000

    def run(self, steps: Sequence[Step]) -> None:
        for step in steps:
            getattr(self, step.do)(step)

    def _unheard(self, client: Guest) -> bool:
        connection = client.connection
        judged = connection.question is not None and connection.phase == RUNNING
        return (
            connection.paused or judged or (client.stuck and connection.output_size > connection.high_water)
        )

    def _receive(self, connection: Connection, octets: bytes) -> None:
        """As the server has it: a large body comes in memory of its own, and who takes long goes on in a while."""
        reader = connection.reader
        if self._few_frames:
            reader.steps = FEW_FRAMES
        due = reader.body_due() if reader.large is not None else 0
        if due > 0 and len(octets) <= due:
            connection.receive_body(memoryview(bytearray(octets)), self.world.now)
        else:
            if reader.large is None:
                reader.large_before = False
            connection.receive(octets, self.world.now)
        self.go_on(connection)

    def go_on(self, connection: Connection) -> None:
        while connection.reader.unhandled or len(self.broker.chores):
            self.broker.chores.finish()
            connection.receive(b"", self.world.now)
        self.world.turn.behind.clear()

    def _time_in_turn(self) -> float:
        """Every other time that somebody asks, time is up."""
        self._asked_for_time += 1
        return self.world.now + self._asked_for_time % 2

    def _take_output(self, client: Guest) -> None:
        connection = client.connection
        output = connection.output
        if client.stuck and not client.gone:
            return
        if output:
            octets = b"".join(output)
            output.clear()
            connection.sent(len(octets), self.world.now)
            if not client.gone:
                client.judge.frame_max = max(connection.frame_max, client.judge.frame_max)
                client.said.append(octets)
                client.judge.hear(octets)
        if connection.finished and not client.gone:
            client.gone = True
            client.judge.end()
            connection.lost()

    def _catch_up(self) -> None:
        """What was not read meanwhile is read now."""
        for number, client in list(self.clients.items()):
            if client.unread and not self._unheard(client):
                octets, client.unread = client.unread, b""
                self.say(Step("say", number, octets))
        self.settle(Step("settle"))

    def _enter(self, name: bytes) -> Guest:
        """A connection that is open, for a user whose password is the name."""
        world = self.world
        guest = Guest(Connection(self.broker, world.settings, world.turn, name.decode(), True, world.now))
        login = b"\0\0\0\0" + short(b"PLAIN") + long(b"\0" + name + b"\0" + name) + short(b"en_US")
        limits = U16(world.settings.channel_max) + U32(world.settings.frame_max or 131072) + b"\0\0"
        said = (
            PROTOCOL_HEADER
            + method(0, "connection.start-ok", login)
            + method(0, "connection.tune-ok", limits)
        )
        self._hear(guest, said + method(0, "connection.open", b"\1/\0\0"))
        return guest

    def _open_neighbour(self) -> Guest:
        neighbour = self._enter(b"neighbour")
        said = method(1, "channel.open", b"\0") + method(1, "confirm.select", b"\0")
        said += method(1, "queue.declare", b"\0\0" + short(NEIGHBOUR) + b"\x02\0\0\0\0")
        said += method(1, "basic.consume", b"\0\0" + short(NEIGHBOUR) + b"\0\0\0\0\0\0")
        self._hear(neighbour, said)
        self.world.store.commit()
        self._hear(neighbour, b"")
        names = [each.name for each in neighbour.judge.take()]
        if names[-2:] != ["queue.declare-ok", "basic.consume-ok"]:
            raise Illegal(f"the neighbour came and heard {names}")
        neighbour.said.clear()
        return neighbour

    def _hear(self, client: Guest, octets: bytes) -> None:
        self._receive(client.connection, octets)
        dirty = self.world.turn.settle()
        for other in (*self.clients.values(), client):
            if other.connection in dirty:
                self._take_output(other)
