"""Rights that somebody else knows: what waits for an answer, what goes on meanwhile, and what comes of each answer."""

from __future__ import annotations

from typing import Any

import pytest

from amqp_broker.broker.access import User
from amqp_broker.broker.flags import QueueFlags
from amqp_broker.session.auth import Authenticator
from amqp_broker.session.handshake import Login, Opening
from amqp_broker.session.judged import (
    ALLOWED,
    DENIED,
    NO_ANSWER,
    NOT_KNOWN,
    RIGHT_NAMES,
    Claim,
    Judge,
    JudgedRights,
    Judgement,
)
from tests.conversations import codec
from tests.conversations.codec import BODY, HEADER, Frame
from tests.session.world import Peer, World, message, method


class Court(Judge):
    """Knows nothing of rights. waiting: who asked; known: verdicts by what was asked; tags: of who logs in.

    at_once: the verdict on everything, if it needs no time.
    """

    def __init__(self, world: World) -> None:
        self.world = world
        self.waiting: list[Judgement] = []
        self.asked: list[str] = []
        self.known: dict[str, int] = {}
        self.at_once: int | None = None
        self.tags: list[str] = []

    def verdict(self, rights: JudgedRights, claim: Claim) -> int:
        return self.known.get(described(claim), NOT_KNOWN)

    def judge(self, judgement: Judgement) -> None:
        self.asked.append(described(judgement.claim))
        if self.at_once is not None:
            judgement.decide(self.at_once, self.world.now)
        else:
            self.waiting.append(judgement)

    def answer(self, verdict: int = ALLOWED) -> None:
        """Of the one who waits longest."""
        self.waiting.pop(0).decide(verdict, self.world.now)
        self.world.end_turn()

    def allow_all(self) -> None:
        while self.waiting:
            self.answer()


class Doorkeeper(Authenticator):
    """Lets everybody in, to do what the court allows."""

    def __init__(self, court: Court) -> None:
        self.court = court

    def log_in(self, login: Login) -> None:
        account = User(login.name, self.court.world.guest.password, [])
        login.allow(account, login.asked, JudgedRights(login.name, list(self.court.tags), self.court))

    def open_vhost(self, opening: Opening) -> None:
        opening.allow(opening.asked)


def described(claim: Claim) -> str:
    words = f"{RIGHT_NAMES[claim.right]} {claim.kind} {claim.name}"
    return f"{words} {claim.routing_key}" if claim.kind == "topic" else words


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def court(world: World) -> Court:
    court = Court(world)
    world.settings.authenticator = Doorkeeper(court)
    return court


@pytest.fixture
def alice(world: World, court: Court) -> Peer:
    peer = world.connect(user="alice", channels=2)
    world.vhost.declare_queue(*queue("q"))
    return peer


def queue(name: str) -> Any:
    return name, QueueFlags(False, False, False), {}, None, False


def test_a_publish_waits_and_all_that_follows_it_on_the_connection(
    world: World, court: Court, alice: Peer
) -> None:
    alice.say(
        message(1, "q", b"first")
        + message(1, "q", b"second")
        + method(2, "queue.declare", queue="q", passive=True)
    )
    assert (alice.take(), len(world.queue("q").ready), court.asked) == ([], 0, ["write exchange amq.default"])
    # What comes meanwhile waits, too.
    alice.say(message(2, "q", b"third"))
    court.known["write exchange amq.default"] = ALLOWED
    court.answer()
    assert alice.take()[0].message_count == 2
    assert bodies(world, "q") == [b"first", b"second", b"third"]
    assert court.asked == ["write exchange amq.default"]


def bodies(world: World, name: str) -> list[bytes]:
    found = []
    while (entry := world.queue(name).get()) is not None:
        found.append(entry.message.body)
        entry.queue.settle(entry)
    return found


def test_other_connections_go_on(world: World, court: Court, alice: Peer) -> None:
    bob = world.connect(user="bob")
    alice.publish(1, "q", b"late")
    bob.publish(1, "q", b"early")
    assert len(court.waiting) == 2
    court.known["write exchange amq.default"] = ALLOWED
    court.waiting.pop().decide(ALLOWED, world.now)
    assert bodies(world, "q") == [b"early"]
    court.answer()
    assert bodies(world, "q") == [b"late"]


@pytest.mark.parametrize(
    ("verdict", "end"),
    [(DENIED, ""), (NO_ANSWER, ", backend rabbit_auth_backend_http returned an error")],
)
def test_what_is_not_allowed_closes_the_channel_alone(
    world: World, court: Court, alice: Peer, verdict: int, end: str
) -> None:
    alice.publish(1, "q", b"m").send(2, "queue.declare", queue="q", passive=True)
    court.answer(verdict)
    close, declared = alice.take()
    assert (close.name, close.class_id, close.method_id) == ("channel.close", 60, 40)
    text = f"ACCESS_REFUSED - access to exchange 'amq.default' in vhost '/' refused for user 'alice'{end}"
    assert close.reply_text == text
    assert declared.message_count == 0


def test_an_answer_counts_for_one_frame_if_it_does_not_last(world: World, court: Court, alice: Peer) -> None:
    alice.say(
        message(1, "q", b"a") + method(1, "queue.purge", queue="q") + method(1, "queue.purge", queue="q")
    )
    court.allow_all()
    assert alice.names() == ["queue.purge-ok", "queue.purge-ok"]
    assert court.asked == ["write exchange amq.default", "read queue q", "read queue q"]


def test_a_method_that_takes_several_rights_waits_for_each(world: World, court: Court, alice: Peer) -> None:
    alice.send(1, "queue.bind", queue="q", exchange="amq.topic", routing_key="a.*")
    court.allow_all()
    assert alice.names() == ["queue.bind-ok"]
    assert court.asked == ["write queue q", "read exchange amq.topic", "read topic amq.topic a.*"]
    alice.send(1, "queue.bind", queue="q", exchange="amq.topic", routing_key="b")
    court.answer()
    court.answer()
    court.answer(DENIED)
    (close,) = alice.take()
    text = (
        "ACCESS_REFUSED - access to topic 'b' in exchange 'amq.topic' in vhost '/' refused for user 'alice'"
    )
    assert (close.reply_text, close.class_id, close.method_id) == (text, 50, 20)


def test_routing_keys_are_asked_about_for_topic_exchanges_alone(
    world: World, court: Court, alice: Peer
) -> None:
    alice.say(message(1, "k", b"", exchange="amq.topic", headers={"CC": ["cc"], "BCC": ["bcc"]}))
    alice.say(message(1, "k", b"", exchange="amq.direct", headers={"CC": ["cc"]}))
    court.allow_all()
    assert court.asked == [
        "write exchange amq.topic",
        "write topic amq.topic k",
        "write topic amq.topic cc",
        "write topic amq.topic bcc",
        "write exchange amq.direct",
    ]


def test_a_queue_without_a_name_keeps_the_one_that_was_asked_about(
    world: World, court: Court, alice: Peer
) -> None:
    names = []
    for _ in range(2):
        alice.send(1, "queue.declare", arguments={"x-dead-letter-exchange": "amq.fanout"}, exclusive=True)
        court.allow_all()
        names.append(alice.take()[0].queue)
    first, second = names
    assert first != second
    assert court.asked == [
        question
        for name in names
        for question in (f"configure queue {name}", f"read queue {name}", "write exchange amq.fanout")
    ]


def test_what_is_known_does_not_wait(world: World, court: Court, alice: Peer) -> None:
    court.known = {"write exchange amq.default": ALLOWED, "read queue q": DENIED}
    alice.publish(1, "q", b"m").send(1, "basic.get", queue="q")
    assert alice.names() == ["channel.close"]
    assert (len(world.queue("q").ready), court.asked) == (1, [])


def test_a_route_is_kept_until_the_generation_changes(world: World, court: Court, alice: Peer) -> None:
    court.known["write exchange amq.default"] = ALLOWED
    alice.publish(1, "q", b"1")
    court.known.clear()
    alice.publish(1, "q", b"2")
    assert (len(world.queue("q").ready), court.asked) == (2, [])
    world.vhost.generation += 1
    alice.publish(1, "q", b"3")
    assert (len(world.queue("q").ready), len(court.waiting)) == (2, 1)


@pytest.mark.parametrize("verdict", [ALLOWED, DENIED])
def test_an_answer_may_come_at_once(world: World, court: Court, alice: Peer, verdict: int) -> None:
    court.at_once = verdict
    alice.say(
        message(1, "q", b"1") + message(1, "q", b"2") + method(2, "queue.declare", queue="q", passive=True)
    )
    if verdict == ALLOWED:
        assert alice.take()[-1].message_count == 2
        bind = method(1, "queue.bind", queue="q", exchange="amq.topic", routing_key="a")
        alice.say(bind + method(1, "queue.declare", queue="q", passive=True))
        assert alice.names() == ["queue.bind-ok", "queue.declare-ok"]
    else:
        assert alice.names() == ["channel.close", "queue.declare-ok"]


def test_confirms_come_in_order(world: World, court: Court, alice: Peer) -> None:
    alice.reply(1, "confirm.select")
    alice.publish(1, "q", b"1").publish(1, "q", b"2")
    court.allow_all()
    acks = [ack for ack in alice.take() if ack.name == "basic.ack"]
    assert acks[-1].delivery_tag == 2


@pytest.mark.parametrize("size", [20_000, 400_000])
def test_a_large_message_waits_as_well(world: World, court: Court, alice: Peer, size: int) -> None:
    body = bytes(size)
    whole = _in_frames(1, "q", body) + method(2, "queue.declare", queue="q", passive=True)
    for at in range(0, len(whole), 50_000):
        alice.say(whole[at : at + 50_000])
    assert alice.take() == []
    court.allow_all()
    assert alice.take()[0].message_count == 1
    entry = world.queue("q").get()
    assert entry is not None
    assert b"".join(entry.message.pieces()) == body


def _in_frames(channel: int, key: str, body: bytes) -> bytes:
    octets = method(channel, "basic.publish", exchange="", routing_key=key)
    octets += Frame(HEADER, channel, codec.encode_header(len(body), {})).encoded()
    pieces = [body[at : at + 131064] for at in range(0, len(body), 131064)]
    return octets + b"".join(Frame(BODY, channel, piece).encoded() for piece in pieces)


def test_octets_behind_a_large_body_are_kept(world: World, court: Court, alice: Peer) -> None:
    octets = _in_frames(1, "q", bytes(400_000))
    alice.say(octets[:100_000])
    assert alice.connection.reader.large is not None
    rest = octets[100_000:] + method(2, "queue.declare", queue="q", passive=True)
    alice.connection.receive_body(memoryview(bytearray(rest)), world.now)
    world.end_turn()
    court.allow_all()
    assert alice.take()[0].message_count == 1


def test_it_comes_to_the_same_wherever_the_octets_are_split(world: World, court: Court) -> None:
    octets = (
        method(1, "queue.declare", queue="s")
        + message(1, "s", b"one")
        + message(1, "s", b"two")
        + method(1, "queue.bind", queue="s", exchange="amq.topic", routing_key="#")
        + message(1, "x", b"three", exchange="amq.topic")
        + method(1, "queue.purge", queue="s")
        + method(1, "queue.delete", queue="s")
    )
    peer = world.connect(user="alice")
    for split in range(0, len(octets), 3):
        peer.say(octets[:split])
        court.allow_all()
        peer.say(octets[split:])
        court.allow_all()
        received = peer.take()
        names = ["queue.declare-ok", "queue.bind-ok", "queue.purge-ok", "queue.delete-ok"]
        assert [item.name for item in received] == names, split
        assert received[2].message_count == 3


def test_an_error_that_ends_the_connection_does_so_after_the_answer(
    world: World, court: Court, alice: Peer
) -> None:
    world.settings.consumer_max = 1
    court.known["read queue q"] = ALLOWED
    alice.send(1, "basic.consume", queue="q", consumer_tag="a").take()
    court.known.clear()
    alice.send(1, "basic.consume", queue="q", consumer_tag="b").send(0, "connection.close-ok")
    court.answer()
    (close,) = alice.take()
    assert close.reply_text == "NOT_ALLOWED - reached maximum (1) of consumers per channel"
    assert alice.connection.finished


def test_who_waits_and_leaves_is_forgotten(world: World, court: Court, alice: Peer) -> None:
    alice.publish(1, "q", b"m").lose()
    court.answer()
    assert len(world.queue("q").ready) == 0
    assert alice.connection.finished


def test_who_waits_can_be_told_to_go(world: World, court: Court, alice: Peer) -> None:
    alice.publish(1, "q", b"m")
    alice.connection.shut_down("shutdown", world.now)
    world.end_turn()
    assert alice.names() == ["connection.close"]
    alice.send(0, "connection.close-ok")
    assert alice.connection.finished
    court.answer()
    assert len(world.queue("q").ready) == 0


def test_a_channel_that_is_closed_meanwhile_hears_nothing_of_the_answer(
    world: World, court: Court, alice: Peer
) -> None:
    court.known["read queue q"] = ALLOWED
    world.settings.consumer_timeout = 100
    court.known["write exchange amq.default"] = ALLOWED
    alice.publish(1, "q", b"m").send(1, "basic.get", queue="q").take()
    court.known.clear()
    alice.send(1, "queue.purge", queue="q")
    world.pass_time(300)
    assert alice.names() == ["channel.close"]
    court.answer()
    assert (alice.take(), alice.connection.finished) == ([], False)
    alice.send(1, "channel.close-ok").send(1, "channel.open")
    assert alice.names() == ["channel.open-ok"]


def test_a_message_of_a_transaction_is_asked_about_when_it_is_published(
    world: World, court: Court, alice: Peer
) -> None:
    alice.reply(1, "tx.select")
    alice.say(message(1, "q", b"1") + method(1, "tx.commit"))
    assert alice.take() == []
    court.answer()
    world.commit()
    assert alice.names() == ["tx.commit-ok"]
    assert len(world.queue("q").ready) == 1


def test_tags_are_those_of_the_login(world: World, court: Court) -> None:
    court.at_once = ALLOWED
    court.tags = ["impersonator"]
    peer = world.connect(user="alice")
    world.vhost.declare_queue(*queue("q"))
    peer.publish(1, "q", b"m", user_id="somebody")
    assert (peer.take(), len(world.queue("q").ready)) == ([], 1)
    court.tags = []
    peer = world.connect(user="alice")
    peer.publish(1, "q", b"m", user_id="somebody")
    assert peer.names() == ["channel.close"]


def test_what_waited_behind_an_answer_has_a_turn_of_its_own(world: World, court: Court, alice: Peer) -> None:
    """Thousands may wait for the same answer, each with much behind it."""
    alice.say(message(1, "q", b"m") * 100)
    judgement = court.waiting.pop()
    court.at_once = ALLOWED
    judgement.decide(ALLOWED, world.now)
    assert len(world.queue("q").ready) == 1
    assert world.turn.behind == [alice.connection]
    world.end_turn()
    assert len(world.queue("q").ready) == 100


def test_heartbeats_go_on_while_somebody_waits(world: World, court: Court) -> None:
    peer = world.connect(user="alice", heartbeat=10)
    peer.connection.unread = True
    peer.publish(1, "q", b"m")
    world.pass_time(60)
    assert set(peer.names()) == {"heartbeat"}
    assert not peer.connection.finished
