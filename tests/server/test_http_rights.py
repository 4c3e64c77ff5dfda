"""A service that is asked over HTTP what users may do: its questions, what is kept of its answers, and its failures."""

from __future__ import annotations

import socket
from typing import Any

import pika
import pika.exceptions
import pytest

from amqp_broker.server.http_backend import COMPLAIN_AGAIN
from amqp_broker.server.verdicts import MOST_REMEMBERED, AllowedRights, Answers
from tests.server.broker_process import PROTOCOL_HEADER, BrokerProcess
from tests.server.login_house import House
from tests.server.moved_clock import MovedClock
from tests.server.secure import eventually
from tests.server.service import Service
from tests.session.world import Peer, message, method

pytestmark = pytest.mark.anyio

OPEN = (
    method(0, "connection.tune-ok", channel_max=2047, frame_max=131072, heartbeat=0)
    + method(0, "connection.open", virtual_host="/")
    + method(1, "channel.open")
    + method(2, "channel.open")
)
REFUSED = "ACCESS_REFUSED - access to exchange 'amq.fanout' in vhost '/' refused for user 'alice'"


class Place:
    """A broker whose only backend is the service, and alice on it, of whom nobody else knows."""

    def __init__(self, service: Service, **options: Any) -> None:
        self.service = service
        self.house = House(backends=("http",), http=service.options(**options))

    async def alice(self) -> Peer:
        peer = self.house.ask("alice", "wonderland")
        peer.say(OPEN)
        await self.heard(peer)
        assert peer.names() == ["connection.tune", "connection.open-ok", "channel.open-ok", "channel.open-ok"]
        self.service.asked.clear()
        return peer

    async def heard(self, peer: Peer) -> Peer:
        """Nothing that the client said waits for an answer any more."""
        await self.house.until(lambda: peer.connection.question is None)
        return peer

    async def published(self, peer: Peer, exchange: str = "amq.fanout", key: str = "") -> int:
        """Publish; returns the number of questions that this took."""
        before = len(self.service.asked)
        peer.say(message(1, key, b"m", exchange=exchange))
        await self.heard(peer)
        return len(self.service.asked) - before


def resource(kind: str, name: str, permission: str) -> tuple[str, str, dict[str, str]]:
    values = {"username": "alice", "vhost": "/", "resource": kind, "name": name, "permission": permission}
    return "GET", "/resource", values | {"tags": "monitoring policymaker"}


def topic(permission: str, key: str, exchange: str = "amq.topic") -> tuple[str, str, dict[str, str]]:
    variables = {"variable_map.username": "alice", "variable_map.vhost": "/"}
    _, _, values = resource("topic", exchange, permission)
    return "GET", "/topic", values | {"routing_key": key} | variables


async def test_it_is_asked_as_rabbitmqs_plugin_asks(service: Service) -> None:
    service.answers["/user"] = (200, "allow monitoring policymaker")
    place = Place(service)
    peer = await place.alice()
    peer.say(
        method(1, "queue.declare", queue="q é", arguments={"x-dead-letter-exchange": "dead"})
        + method(1, "exchange.declare", exchange="x", type="topic")
        + method(1, "queue.bind", queue="q é", exchange="amq.topic", routing_key="a.*")
        + message(1, "a.b c&é", b"m", exchange="amq.topic")
        + message(1, "q é", b"m")
        + method(1, "basic.consume", queue="q é")
        + method(1, "queue.declare", queue="q é", passive=True)
    )
    await place.heard(peer)
    assert service.asked == [
        resource("queue", "q é", "configure"),
        resource("queue", "q é", "read"),
        resource("exchange", "dead", "write"),
        resource("exchange", "x", "configure"),
        resource("queue", "q é", "write"),
        resource("exchange", "amq.topic", "read"),
        topic("read", "a.*"),
        resource("exchange", "amq.topic", "write"),
        topic("write", "a.b c&é"),
        resource("exchange", "amq.default", "write"),
    ]
    assert [name for name in peer.names() if name == "channel.close"] == []


async def test_what_it_allowed_counts_for_a_while_also_in_open_channels(service: Service) -> None:
    place = Place(service, cache_rights=20)
    peer = await place.alice()
    assert [await place.published(peer) for _ in range(3)] == [1, 0, 0]
    await place.house.advance(19)
    assert await place.published(peer) == 0
    await place.house.advance(2)
    service.answers["/resource"] = (200, "deny")
    assert await place.published(peer) == 1
    assert peer.take()[0].reply_text == REFUSED


async def test_all_connections_of_a_user_share_the_answers_if_their_tags_are_the_same(
    service: Service,
) -> None:
    place = Place(service)
    assert await place.published(await place.alice()) == 1
    assert await place.published(await place.alice()) == 0
    service.answers["/user"] = (200, "allow administrator")
    await place.house.advance(16)
    assert await place.published(await place.alice()) == 1


async def test_what_it_denied_counts_for_a_second(service: Service) -> None:
    place = Place(service)
    peer = await place.alice()
    service.answers["/resource"] = (200, "deny")
    assert [await place.published(peer), peer.take()[0].reply_text] == [1, REFUSED]
    service.answers["/resource"] = (200, "allow")
    peer.say(method(1, "channel.close-ok") + method(1, "channel.open")).take()
    assert [await place.published(peer), peer.take()[0].reply_text] == [0, REFUSED]
    peer.say(method(1, "channel.close-ok") + method(1, "channel.open")).take()
    await place.house.advance(1.1)
    assert [await place.published(peer), peer.take()] == [1, []]


async def test_what_it_denied_counts_as_long_if_it_is_to(service: Service) -> None:
    place = Place(service, cache_refusals=True, cache_rights=30)
    peer = await place.alice()
    service.answers["/resource"] = (200, "deny")
    await place.published(peer)
    peer.say(method(1, "channel.close-ok") + method(1, "channel.open")).take()
    await place.house.advance(29)
    assert [await place.published(peer), peer.take()[0].reply_text] == [0, REFUSED]


@pytest.mark.parametrize(
    "answer", [(500, "allow"), (200, "allowed"), (200, ""), (204, ""), (404, "deny"), (200, "x" * 100_000)]
)
async def test_anything_but_yes_and_no_is_refused(service: Service, answer: tuple[int, str]) -> None:
    place = Place(service)
    peer = await place.alice()
    service.answers["/resource"] = answer
    await place.published(peer)
    assert peer.take()[0].reply_text == REFUSED + ", backend rabbit_auth_backend_http returned an error"
    service.answers["/resource"] = (200, "allow")
    assert await place.published(await place.alice()) == 1


async def test_many_who_ask_the_same_ask_once(service: Service) -> None:
    place = Place(service)
    peers = [await place.alice() for _ in range(20)]
    service.goes_on.clear()
    for peer in peers:
        peer.say(message(1, "", b"m", exchange="amq.fanout"))
    service.goes_on.set()
    for peer in peers:
        await place.heard(peer)
        assert peer.take() == []
    assert len(service.asked) == 1


async def test_nobody_waits_for_longer_than_the_timeout(
    service: Service, caplog: pytest.LogCaptureFixture
) -> None:
    place = Place(service, timeout=50)
    peer, later = await place.alice(), await place.alice()
    service.goes_on.clear()
    peer.say(message(1, "", b"m", exchange="amq.fanout"))
    await place.house.advance(30)
    later.say(message(1, "", b"m", exchange="amq.fanout"))
    await place.house.advance(21)
    assert peer.take()[0].reply_text.startswith(REFUSED + ", backend")
    # One question is not asked twice at a time, so its answer fails for all who wait for it.
    assert later.take()[0].reply_text.startswith(REFUSED + ", backend")
    assert [record.message for record in caplog.records if "HTTP" in record.message] == [
        f"no answer of the HTTP backend: {place.service.options().resource_path}: no answer within 50 s"
    ]
    service.goes_on.set()


async def test_a_service_that_dribbles_is_cut_off(service: Service, caplog: pytest.LogCaptureFixture) -> None:
    place = Place(service, timeout=0.2)
    peer = await place.alice()
    service.dribbles = True
    # The thread's clock has to run for it.
    place.house.authentication._http.clock.monotonic = service.seconds  # type: ignore[union-attr, method-assign]
    await place.published(peer)
    assert peer.take()[0].reply_text.startswith(REFUSED + ", backend")
    assert "no answer within 0.2 s" in caplog.text


async def test_a_service_that_is_away_is_complained_about_now_and_then(
    service: Service, caplog: pytest.LogCaptureFixture
) -> None:
    place = Place(service)
    service.answers["/resource"] = (500, "")
    for _ in range(5):
        await place.published(await place.alice())
    await place.house.advance(COMPLAIN_AGAIN)
    await place.published(await place.alice())
    complaint = f"no answer of the HTTP backend: {place.service.options().resource_path}: status 500"
    assert [record.message for record in caplog.records if "HTTP" in record.message] == [
        complaint,
        f"{complaint} (and 4 times more since the last such line)",
    ]


async def test_limits_of_a_user_of_that_name_count_and_so_does_its_end(service: Service) -> None:
    place = Place(service)
    broker = place.house.world.broker
    account = broker.put_user("alice", broker.users["guest"].password, [], {"max-connections": 1})
    peer = await place.alice()
    second = place.house.ask("alice", "wonderland").say(OPEN)
    await place.heard(second)
    assert "user connection limit (1) is reached" in second.take()[-1].reply_text
    broker.delete_user(account.name)
    place.house.world.end_turn()
    assert peer.take()[0].reply_text == "CONNECTION_FORCED - user 'alice' is deleted"


# -- what is remembered


def test_there_is_a_bound_to_what_is_remembered() -> None:
    clock, ended = MovedClock(), []
    rights, answers = AllowedRights(60, clock, ended.append), Answers(60)
    for number in range(MOST_REMEMBERED + 10):
        key = number.to_bytes(4, "big")
        rights.remember(key, "/" if number else "first")
        answers.remember(key, "", 0)
    assert (len(rights), len(answers)) == (MOST_REMEMBERED, MOST_REMEMBERED)
    assert not rights.holds(bytes(4))


async def test_rights_that_end_are_announced(service: Service) -> None:
    clock = MovedClock()
    ended: list[set[str]] = []
    rights = AllowedRights(10, clock, lambda vhosts: ended.append(set(vhosts)))
    rights.remember(b"1", "one")
    await clock.advance(5)
    rights.remember(b"2", "two")
    await clock.advance(4.9)
    assert (rights.holds(b"1"), ended) == (True, [])
    await clock.advance(0.2)
    assert (rights.holds(b"1"), rights.holds(b"2"), ended) == (False, True, [{"one"}])
    await clock.advance(5)
    assert (len(rights), ended) == (0, [{"one"}, {"two"}])
    rights.remember(b"1", "one")
    rights.close()
    await clock.advance(60)
    assert len(ended) == 2


# -- over sockets


def test_a_broker_asks_about_everything(service: Service, own_broker: BrokerProcess, tmp_path: Any) -> None:
    config = tmp_path / "rabbitmq.conf"
    paths = [f"auth_http.{name} = {getattr(service.options(), name)}\n" for name in PATHS]
    config.write_text("auth_backends.1 = http\nlisteners.tcp.1 = 127.0.0.1:0\n" + "".join(paths))
    own_broker.arguments = ["--config", str(config)]
    own_broker.start()
    parameters = pika.ConnectionParameters(
        "127.0.0.1", own_broker.port, credentials=pika.PlainCredentials("nobody-here", "secret")
    )
    with pika.BlockingConnection(parameters) as connection:
        channel = connection.channel()
        channel.confirm_delivery()
        channel.queue_declare("q")
        for number in range(200):
            channel.basic_publish("", "q", b"%d" % number, mandatory=True)
        received = [channel.basic_get("q", auto_ack=True)[2] for _ in range(200)]
        assert received == [b"%d" % number for number in range(200)]
        service.answers["/resource"] = (200, "deny")
        with pytest.raises(pika.exceptions.ChannelClosedByBroker) as refusal:
            connection.channel().queue_declare("other")
        assert refusal.value.reply_text == (
            "ACCESS_REFUSED - access to queue 'other' in vhost '/' refused for user 'nobody-here'"
        )
        # Without confirms much of it is on its way before there is an answer: order and number stay.
        service.answers["/resource"] = (200, "allow")
        unconfirmed = connection.channel()
        unconfirmed.exchange_declare("late", "fanout")
        unconfirmed.queue_bind("q", "late")
        service.goes_on.clear()
        for number in range(3000):
            unconfirmed.basic_publish("late", "q", b"%d" % number + bytes(500))
        service.goes_on.set()
        assert unconfirmed.queue_declare("q", passive=True).method.message_count == 3000
        first = unconfirmed.basic_get("q", auto_ack=True)[2]
        assert first == b"0" + bytes(500)
    assert own_broker.stop() == 0


def test_a_broker_that_stops_does_not_wait_for_the_service(
    service: Service, own_broker: BrokerProcess, tmp_path: Any
) -> None:
    (tmp_path / "broker.toml").write_text(
        f'[auth]\nbackends = ["http+internal"]\n[auth.http]\ntimeout = "60s"\n'
        f'user_path = "{service.options().user_path}"\n[protocol]\nhandshake_timeout = "60s"\n'
    )
    own_broker.arguments = ["--config", str(tmp_path / "broker.toml")]
    own_broker.start()
    service.goes_on.clear()
    with socket.create_connection(("127.0.0.1", own_broker.port)) as raw:
        raw.sendall(PROTOCOL_HEADER)
        login = {"mechanism": "PLAIN", "response": "\0guest\0guest", "locale": "en_US"}
        raw.sendall(method(0, "connection.start-ok", client_properties={}, **login))
        eventually(lambda: service.asked, own_broker.stderr)
        # It is killed, and has another status, if it waits for longer than the test.
        assert own_broker.stop() == 0


PATHS = ("user_path", "vhost_path", "resource_path", "topic_path")
