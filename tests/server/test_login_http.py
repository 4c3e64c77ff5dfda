"""A service that is asked over HTTP: what it is asked, what its answers mean, and what is not asked twice."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pika
import pika.exceptions
import pytest

from amqp_broker.broker.passwords import SHA256, PasswordHash, hash_password
from amqp_broker.server.login_delays import FREE
from tests.server.broker_process import BrokerProcess
from tests.server.login_house import House, answered
from tests.server.service import Service
from tests.session.world import Peer, method

pytestmark = pytest.mark.anyio

NO_ANSWER = "no answer of the HTTP backend"
REFUSED = "user 'alice' - invalid credentials"
TUNE_OK = method(0, "connection.tune-ok", channel_max=2047, frame_max=131072, heartbeat=0)
OPEN = method(0, "connection.open", virtual_host="/")


def house_asking(service: Service, *backends: str, **options: Any) -> House:
    """A broker that asks the service, on which alice has permissions and no password."""
    house = House(backends=backends or ("http",), http=service.options(**options))
    house.add("alice", PasswordHash(SHA256, b""))
    return house


async def test_the_service_says_who_gets_in(service: Service) -> None:
    house = house_asking(service)
    assert await house.login("alice", "wönder&land") == "in"
    assert service.asked == [("GET", "/user", {"username": "alice", "password": "wönder&land"})]
    service.answers["/user"] = (200, "deny")
    assert await house.login("alice", "other") == REFUSED


async def test_a_form_keeps_the_password_out_of_the_address(service: Service) -> None:
    house = house_asking(service, method="post")
    assert await house.login("alice", "wonderland") == "in"
    assert service.asked == [("POST", "/user", {"username": "alice", "password": "wonderland"})]


@pytest.mark.parametrize(
    ("answer", "outcome"),
    [
        ((200, "allow administrator management"), "in"),
        ((201, " Allow \n"), "in"),
        ((200, "deny too many devices"), REFUSED),
        ((200, "allowed"), NO_ANSWER),
        ((200, ""), NO_ANSWER),
        ((200, "<html>"), NO_ANSWER),
        ((401, "deny"), NO_ANSWER),
        ((500, "allow"), NO_ANSWER),
        ((302, "allow"), NO_ANSWER),
    ],
)
async def test_only_yes_is_yes(service: Service, answer: tuple[int, str], outcome: str) -> None:
    service.answers["/user"] = answer
    assert await house_asking(service).login("alice", "wonderland") == outcome


async def test_a_service_that_is_not_there_lets_nobody_in(service: Service) -> None:
    house = house_asking(service, user_path="http://127.0.0.1:1/user")
    peer = house.ask("alice", "wonderland")
    assert await house.outcome(peer) == NO_ANSWER
    assert peer.take() == []


async def test_a_service_that_does_not_answer_lets_nobody_in(service: Service) -> None:
    service.goes_on.clear()
    house = house_asking(service, timeout=0.1)
    assert await house.login("alice", "wonderland") == NO_ANSWER


async def test_a_user_needs_to_be_here_if_permissions_here_count(service: Service) -> None:
    reason = "user 'bob' - allowed by the HTTP backend, but there is no such user here"
    assert await house_asking(service, "http+internal").login("bob", "builder") == reason
    assert await house_asking(service, "http").login("bob", "builder") == "in"
    assert await house_asking(service, "http+internal", "http").login("bob", "builder") == "in"


async def test_a_user_of_this_machine_is_refused_elsewhere(service: Service) -> None:
    reason = "user 'guest' can only connect via localhost"
    assert await house_asking(service).login("guest", "guest", "10.0.0.9") == reason


async def test_it_is_not_asked_again_while_its_answer_lasts(service: Service) -> None:
    house = house_asking(service, cache=15)
    assert await house.login("alice", "wonderland") == "in"
    assert answered(house.ask("alice", "wonderland"))
    await house.advance(14)
    assert answered(house.ask("alice", "wonderland"))
    assert len(service.asked) == 1
    await house.advance(1.5)
    service.answers["/user"] = (200, "deny")
    assert await house.login("alice", "wonderland") == REFUSED


async def test_it_is_always_asked_without_a_cache(service: Service) -> None:
    house = house_asking(service, cache=0)
    for _ in range(3):
        assert await house.login("alice", "wonderland") == "in"
    assert len(service.asked) == 3


async def test_no_is_asked_again(service: Service) -> None:
    house = house_asking(service)
    service.answers["/user"] = (200, "deny")
    assert await house.login("alice", "wonderland") == REFUSED
    service.answers["/user"] = (200, "allow")
    assert await house.login("alice", "wonderland") == "in"


async def test_what_many_ask_at_once_is_asked_once(service: Service) -> None:
    house = house_asking(service)
    peers = [house.ask("alice", "wonderland") for _ in range(200)]
    assert {await house.outcome(peer) for peer in peers} == {"in"}
    assert len(service.asked) == 1


async def test_own_users_come_first_if_they_stand_first(service: Service) -> None:
    house = house_asking(service, "internal", "http")
    house.add("bob", hash_password("builder"))
    assert await house.login("bob", "builder") == "in"
    assert service.asked == []
    assert await house.login("alice", "wonderland") == "in"
    assert len(service.asked) == 1


async def test_own_users_come_second_if_they_stand_second(service: Service) -> None:
    house = house_asking(service, "http", "internal")
    house.add("bob", hash_password("builder"))
    service.answers["/user"] = (200, "deny")
    assert await house.login("bob", "builder") == "in"
    assert len(service.asked) == 1
    assert await house.login("bob", "wrong") == "user 'bob' - invalid credentials"


async def test_own_users_get_in_while_the_service_is_away(service: Service) -> None:
    service.answers["/user"] = (500, "")
    house = house_asking(service, "http", "internal")
    house.add("bob", hash_password("builder"))
    assert await house.login("bob", "builder") == "in"


async def test_guessing_is_not_cheaper_while_the_service_is_away(service: Service) -> None:
    service.answers["/user"] = (500, "")
    house = house_asking(service, "internal", "http")
    for _ in range(FREE):
        assert await house.login("alice", "guess") == NO_ANSWER
    assert not answered(house.ask("guest", "guest"))


# -- virtual hosts


async def opened(house: House, *, address: str = "") -> Peer:
    """A client that alice has logged in by, and that has asked for its virtual host."""
    peer = house.ask("alice", "wonderland", address)
    assert await house.outcome(peer) == "in"
    peer.take()
    peer.say(TUNE_OK + OPEN)
    await house.until(lambda: answered(peer))
    return peer


async def test_the_service_is_asked_about_the_vhost(service: Service) -> None:
    house = house_asking(service)
    service.answers["/user"] = (200, "allow monitoring  management")
    peer = await opened(house, address="10.0.0.9")
    assert peer.names() == ["connection.open-ok"]
    values = {"username": "alice", "vhost": "/", "ip": "10.0.0.9", "tags": "monitoring management"}
    assert service.asked[1:] == [("GET", "/vhost", values)]
    again = await opened(house, address="10.0.0.9")
    assert again.names() == ["connection.open-ok"]
    assert len(service.asked) == 2


async def test_a_new_secret_is_taken_and_the_service_not_asked(service: Service) -> None:
    """RabbitMQ asks it neither, whatever the cache: its HTTP backend has nothing that could expire."""
    peer = await opened(house_asking(service, cache=0.0, timeout=60))
    service.answers["/user"] = (200, "deny")
    asked = list(service.asked)
    peer.say(method(0, "connection.update-secret", new_secret=b"other", reason="it is time"))
    assert peer.names() == ["connection.open-ok", "connection.update-secret-ok"]
    assert (peer.connection.question, service.asked) == (None, asked)


async def test_a_vhost_that_the_service_denies_stays_closed(service: Service) -> None:
    service.answers["/vhost"] = (200, "deny")
    peer = await opened(house_asking(service))
    assert peer.take()[0].reply_text == "NOT_ALLOWED - access to vhost '/' refused for user 'alice'"


async def test_without_an_answer_about_the_vhost_the_client_is_disconnected(service: Service) -> None:
    service.answers["/vhost"] = (500, "")
    peer = await opened(house_asking(service))
    assert peer.take() == []
    assert peer.connection.close_reason == NO_ANSWER


async def test_only_the_users_of_the_service_are_asked_about(service: Service) -> None:
    house = house_asking(service, "internal", "http")
    house.add("alice", hash_password("wonderland"))
    assert (await opened(house)).names() == ["connection.open-ok"]
    assert service.asked == []


async def test_no_vhost_is_asked_about_if_permissions_here_count(service: Service) -> None:
    house = house_asking(service, "http+internal")
    assert (await opened(house)).names() == ["connection.open-ok"]
    assert [path for _, path, _ in service.asked] == ["/user"]


async def test_own_users_whose_rights_the_service_knows_are_asked_about_with_their_tags(
    service: Service,
) -> None:
    house = house_asking(service, "internal+http")
    house.world.broker.put_user("alice", hash_password("wonderland"), ["monitoring"], {})
    service.answers["/user"] = (200, "allow administrator")
    assert (await opened(house, address="10.0.0.9")).names() == ["connection.open-ok"]
    values = {"username": "alice", "vhost": "/", "ip": "10.0.0.9", "tags": "monitoring"}
    assert service.asked == [
        ("GET", "/user", {"username": "alice", "password": "wonderland"}),
        ("GET", "/vhost", values),
    ]
    assert await house.login("alice", "wrong") == REFUSED
    service.answers["/user"] = (200, "deny")
    house.add("bob", hash_password("builder"))
    assert await house.login("bob", "builder") == "user 'bob' - invalid credentials"


async def test_refusals_count_as_long_if_they_are_to(service: Service) -> None:
    house = house_asking(service, cache_refusals=True)
    service.answers["/user"] = (200, "deny")
    assert await house.login("alice", "wonderland") == REFUSED
    assert answered(house.ask("alice", "wonderland"))
    assert len(service.asked) == 1
    await house.advance(15.5)
    service.answers["/user"] = (200, "allow")
    assert await house.login("alice", "wonderland") == "in"


def test_a_broker_goes_by_its_configuration(
    service: Service, own_broker: BrokerProcess, tmp_path: Path
) -> None:
    url = f"http://127.0.0.1:{service.server_port}"
    config = tmp_path / "broker.toml"
    config.write_text(
        f'[auth]\nbackends = ["http+internal"]\n[auth.http]\nuser_path = "{url}/user"\nmethod = "post"\n'
    )
    own_broker.arguments = ["--config", str(config)]
    own_broker.start()
    credentials = pika.PlainCredentials("guest", "what the service knows")
    parameters = pika.ConnectionParameters("127.0.0.1", own_broker.port, credentials=credentials)
    for _ in range(2):
        with pika.BlockingConnection(parameters) as connection:
            connection.channel().queue_declare("", exclusive=True)
    assert service.asked == [
        ("POST", "/user", {"username": "guest", "password": "what the service knows"}),
    ]
    service.answers["/user"] = (200, "deny")
    with pytest.raises(pika.exceptions.ProbableAuthenticationError):
        pika.BlockingConnection(
            pika.ConnectionParameters(
                "127.0.0.1", own_broker.port, credentials=pika.PlainCredentials("guest", "guest")
            )
        )
    assert own_broker.stop() == 0
