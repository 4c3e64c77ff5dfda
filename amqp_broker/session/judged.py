"""Rights that somebody else knows, who has to be asked: what a connection does until there is an answer.

A method or a message whose rights are not known yet has changed nothing when `Undecided` is raised. It is kept, the
connection hears nothing more, and with the answer it is done again from its beginning; so frames keep their order. One
that needs several rights may have to wait several times. A user whose permissions are kept here never comes here.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Final, cast

from mypy_extensions import mypyc_attr

from amqp_broker.broker.access import CONFIGURE, READ, WRITE, Rights, topic_in
from amqp_broker.broker.names import generated_name
from amqp_broker.content.body import Piece
from amqp_broker.content.header import ContentHeader
from amqp_broker.errors import HardError, exchange_in, queue_in
from amqp_broker.session.handshake import RUNNING, Question
from amqp_broker.wire.turns import MOST_KEPT

if TYPE_CHECKING:
    from amqp_broker.broker.vhost import VirtualHost
    from amqp_broker.session.channel import Channel, KnownPublish
    from amqp_broker.session.connection import Connection

# Verdicts.
DENIED: Final = 0
ALLOWED: Final = 1
NOT_KNOWN: Final = 2
NO_ANSWER: Final = 3

RIGHT_NAMES: Final = {CONFIGURE: "configure", WRITE: "write", READ: "read"}

QUEUE: Final = "queue"
EXCHANGE: Final = "exchange"
TOPIC: Final = "topic"

# As RabbitMQ puts it, but for the error itself, which is in the log.
FAILED: Final = ", backend rabbit_auth_backend_http returned an error"


class Claim:
    """Something that a user wants to do. kind: QUEUE, EXCHANGE or TOPIC; right: CONFIGURE, WRITE or READ.

    name: of the queue or exchange; routing_key: of a topic, else "".
    """

    __slots__ = ("kind", "name", "right", "routing_key", "vhost")

    def __init__(self, kind: str, right: int, name: str, vhost: str, routing_key: str = "") -> None:
        self.kind: str = kind
        self.right: int = right
        self.name: str = name
        self.vhost: str = vhost
        self.routing_key: str = routing_key

    def key(self) -> tuple[str, int, str, str]:
        """By which claims of one connection are told apart: it is in one virtual host."""
        return self.kind, self.right, self.name, self.routing_key

    def resource(self) -> str:
        """As RabbitMQ's refusals name it."""
        if self.kind == TOPIC:
            return topic_in(self.routing_key, self.name, self.vhost)
        return (queue_in if self.kind == QUEUE else exchange_in)(self.name, self.vhost)


class Undecided(Exception):
    """Nobody here knows yet whether this may be done."""

    def __init__(self, claim: Claim) -> None:
        super().__init__(claim.resource())
        self.claim: Claim = claim


@mypyc_attr(allow_interpreted_subclasses=True)
class Judge(ABC):
    """Says what users may do."""

    __slots__ = ()

    @abstractmethod
    def verdict(self, rights: JudgedRights, claim: Claim) -> int:
        """What is known already: ALLOWED, DENIED or NOT_KNOWN.

        An ALLOWED that ends changes the generation of the virtual host, so that it is asked for again.
        """

    @abstractmethod
    def judge(self, judgement: Judgement) -> None:
        """Find out and tell `judgement.decide`: at once, or in a turn of its own if it is still wanted then."""


class JudgedRights(Rights):
    """decided: what was found out for the frame under way, which counts for it even if it does not last.

    queue_name: the name that the frame under way has for a new queue, "" for none yet.
    """

    __slots__ = ("decided", "judge", "queue_name")

    def __init__(self, name: str, tags: list[str], judge: Judge) -> None:
        super().__init__(name, tags)
        self.judge: Judge = judge
        self.decided: dict[tuple[str, int, str, str], int] = {}
        self.queue_name: str = ""

    def may_use_queue(self, right: int, name: str, vhost: str) -> bool:
        """What was allowed to begin goes on, and ends when the connection has to: nothing is kept here."""
        return False

    def check_queue(self, right: int, name: str, vhost: str) -> None:
        self._check(Claim(QUEUE, right, name, vhost))

    def check_exchange(self, right: int, name: str, vhost: str) -> None:
        self._check(Claim(EXCHANGE, right, name or "amq.default", vhost))

    def check_topic(self, right: int, routing_key: str, exchange: str, vhost: str) -> None:
        self._check(Claim(TOPIC, right, exchange, vhost, routing_key))

    def has_topics(self, exchange: str, vhost: str) -> bool:
        return True

    def new_queue_name(self, vhost: VirtualHost) -> str:
        if not self.queue_name:
            self.queue_name = generated_name(vhost.queues)
        return self.queue_name

    def frame_done(self) -> None:
        self.decided.clear()
        self.queue_name = ""

    def _check(self, claim: Claim) -> None:
        verdict = self.decided.get(claim.key(), NOT_KNOWN)
        if verdict == NOT_KNOWN:
            verdict = self.judge.verdict(self, claim)
        if verdict == NOT_KNOWN:
            raise Undecided(claim)
        if verdict != ALLOWED:
            raise self.refused(claim.resource(), FAILED if verdict == NO_ANSWER else "")


class Judgement(Question):
    """A claim that a connection waits for. Done again is a method (payload) or a message (publish and so on)."""

    __slots__ = ("body", "channel_id", "chunks", "claim", "header", "payload", "publish", "rights")

    def __init__(self, claim: Claim, channel: Channel, payload: bytes) -> None:
        super().__init__(channel.connection)
        self.claim: Claim = claim
        self.rights: JudgedRights = cast(JudgedRights, channel.rights)
        self.channel_id: int = channel.channel_id
        self.payload: bytes = payload
        self.publish: KnownPublish | None = None
        self.header: ContentHeader | None = None
        self.body: bytes = b""
        self.chunks: list[Piece] | None = None

    @property
    def wanted(self) -> bool:
        return self.connection.question is self and self.connection.phase == RUNNING

    def wait(self) -> None:
        if self.wanted:
            self.connection.reader.hold(MOST_KEPT)

    def decide(self, verdict: int, now: float) -> None:
        """verdict: ALLOWED, DENIED or NO_ANSWER. Later than at once, in a turn of its own."""
        if not self.wanted:
            return
        connection = self.connection
        connection.question = None
        self.rights.decided[self.claim.key()] = verdict
        if not connection.reader.held:
            # The reader is still at the frame, and hears of what is wrong with it.
            self._go_on()
            return
        connection.reader.hold(0)
        try:
            self._go_on()
        except HardError as error:
            connection.fail(error, now)
        if not _waits(connection) and connection.reader.rest:
            # One answer may be for many: each goes on in a turn that others have theirs before and after.
            connection.reader.unhandled = True
            connection.turn.behind.append(connection)

    def _go_on(self) -> None:
        """Do it again; it may find something else that has to be asked first."""
        connection = self.connection
        try:
            if self.publish is not None:
                assert self.header is not None
                connection.message_received(self.publish, self.header, self.body, self.chunks)
            else:
                connection.method_received(self.channel_id, self.payload)
        finally:
            if connection.question is None:
                self.rights.frame_done()


def _waits(connection: Connection) -> bool:
    """A function of its own: who has just set the question to None would have mypyc believe that it still is."""
    return connection.question is not None


def ask_about_method(claim: Claim, channel: Channel, payload: bytes) -> None:
    """The method is done again once it is known whether it may be. Raises what is wrong with it if that is at once."""
    _ask(Judgement(claim, channel, payload))


def ask_about_publish(
    claim: Claim, publish: KnownPublish, header: ContentHeader, body: bytes, chunks: list[Piece] | None
) -> None:
    """The same for a message."""
    judgement = Judgement(claim, publish.channel, b"")
    judgement.publish = publish
    judgement.header = header
    judgement.body = body
    judgement.chunks = chunks
    _ask(judgement)


def _ask(judgement: Judgement) -> None:
    judgement.connection.question = judgement
    judgement.rights.judge.judge(judgement)
    judgement.wait()


def let_go(connection: Connection) -> None:
    """The connection is being closed: nobody waits for an answer any more, and the rest is heard."""
    if isinstance(connection.question, Judgement):
        connection.question = None
        connection.reader.hold(0)
