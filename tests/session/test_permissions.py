"""What users may do over their connections, and what happens to those when rights change under them."""

from __future__ import annotations

from typing import Any

import pytest

from amqp_broker.broker.access import Permission, TopicPermission, User
from amqp_broker.broker.flags import VirtualHostMetadata
from amqp_broker.broker.passwords import hash_password
from amqp_broker.definitions import load, read
from tests.session.world import Peer, World, message


@pytest.fixture
def world() -> World:
    return World()


@pytest.fixture
def alice(world: World) -> User:
    return make_user(world, "alice")


def make_user(world: World, name: str, configure: str = ".*", write: str = ".*", read: str = ".*") -> User:
    user = world.broker.put_user(name, hash_password(name), [], {})
    world.broker.set_permission(user, world.vhost, Permission(configure, write, read))
    return user


def permit(world: World, user: User, configure: str = ".*", write: str = ".*", read: str = ".*") -> None:
    world.broker.set_permission(user, world.vhost, Permission(configure, write, read))
    world.end_turn()


def restrict(world: World, user: User, write: str, read: str, exchange: str = "amq.topic") -> None:
    world.broker.set_topic_permission(user, world.vhost, exchange, TopicPermission(write, read))


def refusal(peer: Peer, channel: int = 1) -> str:
    """The text with which the channel was closed, nothing else having come; the channel is open again then."""
    [close] = peer.take()
    assert (close.channel, close.name, close.reply_code) == (channel, "channel.close", 403)
    peer.send(channel, "channel.close-ok").send(channel, "channel.open").take()
    return str(close.reply_text)


def end(peer: Peer) -> tuple[int, str]:
    """Code and text with which the connection was closed, nothing else having come."""
    [close] = peer.take()
    assert (close.channel, close.name) == (0, "connection.close")
    assert (close.class_id, close.method_id) == (0, 0)
    return close.reply_code, close.reply_text


def topic_refusal(key: str, user: str = "alice", exchange: str = "amq.topic") -> str:
    resource = f"topic '{key}' in exchange '{exchange}' in vhost '/'"
    return f"ACCESS_REFUSED - access to {resource} refused for user '{user}'"


# -- topic permissions


def test_a_key_that_is_not_allowed_is_not_published(world: World, alice: User) -> None:
    restrict(world, alice, r"^{username}\.", ".*")
    peer = world.connect(user="alice")
    peer.send(1, "queue.declare", queue="q")
    peer.send(1, "queue.bind", queue="q", exchange="amq.topic", routing_key="#").take()
    peer.publish(1, "alice.a", b"1", exchange="amq.topic")
    peer.publish(1, "bob.a", b"2", exchange="amq.topic")
    assert refusal(peer) == topic_refusal("bob.a")
    peer.publish(1, "alice.a", b"3", exchange="amq.topic")
    assert peer.take() == []
    assert world.queue("q").ready_count() == 2


@pytest.mark.parametrize("header", ["CC", "BCC"])
def test_nor_is_one_in_cc_or_bcc(world: World, alice: User, header: str) -> None:
    restrict(world, alice, "^a", ".*")
    peer = world.connect(user="alice")
    peer.publish(1, "a", b"", exchange="amq.topic", headers={header: ["ab"]})
    assert peer.take() == []
    peer.publish(1, "a", b"", exchange="amq.topic", headers={header: ["ab", "b"]})
    assert refusal(peer) == topic_refusal("b")


def test_only_topic_exchanges_have_keys_to_be_guarded(world: World, alice: User) -> None:
    for exchange in ("", "amq.direct", "amq.fanout"):
        restrict(world, alice, "", "", exchange)
    peer = world.connect(user="alice")
    peer.send(1, "queue.declare", queue="q").take()
    for exchange in ("", "amq.direct", "amq.fanout"):
        peer.publish(1, "q", b"", exchange=exchange)
    peer.send(1, "queue.bind", queue="q", exchange="amq.direct", routing_key="k")
    assert peer.names() == ["queue.bind-ok"]


def test_the_exchange_comes_before_the_key(world: World, alice: User) -> None:
    restrict(world, alice, "", "")
    permit(world, alice, write="^$", read="^$")
    peer = world.connect(user="alice")
    peer.publish(1, "k", b"", exchange="amq.topic")
    assert "access to exchange 'amq.topic'" in refusal(peer)


BINDS: list[tuple[str, dict[str, Any]]] = [
    ("queue.bind", {"queue": "q", "exchange": "amq.topic"}),
    ("queue.unbind", {"queue": "q", "exchange": "amq.topic"}),
    ("exchange.bind", {"destination": "d", "source": "amq.topic"}),
    ("exchange.unbind", {"destination": "d", "source": "amq.topic"}),
]


@pytest.mark.parametrize(("method", "ends"), BINDS)
def test_a_key_that_may_not_be_read_is_neither_bound_nor_unbound(
    world: World, alice: User, method: str, ends: dict[str, Any]
) -> None:
    restrict(world, alice, "", "^a$")
    peer = world.connect(user="alice")
    peer.send(1, "queue.declare", queue="q").send(1, "exchange.declare", exchange="d", type="fanout").take()
    assert peer.reply(1, method, routing_key="a", **ends).name == f"{method}-ok"
    peer.send(1, method, routing_key="a.b", **ends)
    assert refusal(peer) == topic_refusal("a.b")


def test_a_binding_of_the_last_queue_is_checked_with_the_key_that_it_gets(world: World, alice: User) -> None:
    restrict(world, alice, "", "^q$")
    peer = world.connect(user="alice")
    peer.send(1, "queue.declare", queue="q").take()
    assert peer.reply(1, "queue.bind", exchange="amq.topic").name == "queue.bind-ok"
    peer.send(1, "queue.declare", queue="r").take()
    peer.send(1, "queue.bind", exchange="amq.topic")
    assert refusal(peer) == topic_refusal("r")


# -- declarations


def test_a_server_named_queue_needs_the_right_to_configure_its_name(world: World) -> None:
    make_user(world, "gen", configure=r"^amq\.gen")
    make_user(world, "own", configure="^(own.*)?$")
    peer = world.connect(user="gen")
    name = peer.reply(1, "queue.declare", queue="").queue
    assert name.startswith("amq.gen-")
    assert name in world.vhost.queues
    peer = world.connect(user="own")
    peer.send(1, "queue.declare", queue="")
    assert refusal(peer).startswith("ACCESS_REFUSED - access to queue 'amq.gen-")


@pytest.mark.parametrize(
    ("read", "write", "refused"),
    [
        (".*", "^dlx$", ""),
        ("^x$", "^dlx$", "queue 'q'"),
        (".*", "^q$", "exchange 'dlx'"),
    ],
)
def test_dead_letters_need_the_right_to_read_here_and_to_write_there(
    world: World, read: str, write: str, refused: str
) -> None:
    make_user(world, "alice", write=write, read=read)
    peer = world.connect(user="alice")
    arguments = {"x-dead-letter-exchange": "dlx"}
    peer.send(1, "queue.declare", queue="q", arguments=arguments)
    if refused:
        assert refusal(peer) == f"ACCESS_REFUSED - access to {refused} in vhost '/' refused for user 'alice'"
    else:
        assert peer.names() == ["queue.declare-ok"]


def test_who_declares_a_queue_that_is_there_needs_no_right_to_its_dead_letters(world: World) -> None:
    make_user(world, "alice", read="^$", write="^$")
    arguments = {"x-dead-letter-exchange": "dlx"}
    world.connect().send(1, "queue.declare", queue="q", arguments=arguments)
    peer = world.connect(user="alice")
    assert peer.reply(1, "queue.declare", queue="q", arguments=arguments).name == "queue.declare-ok"


@pytest.mark.parametrize(
    ("read", "write", "refused"),
    [(".*", "^ae$", ""), ("^ae$", "^ae$", "exchange 'x'"), (".*", "^x$", "exchange 'ae'")],
)
def test_an_alternate_exchange_needs_the_right_to_read_here_and_to_write_there(
    world: World, read: str, write: str, refused: str
) -> None:
    make_user(world, "alice", write=write, read=read)
    peer = world.connect(user="alice")
    arguments = {"alternate-exchange": "ae"}
    peer.send(1, "exchange.declare", exchange="x", type="direct", arguments=arguments)
    if refused:
        assert refusal(peer) == f"ACCESS_REFUSED - access to {refused} in vhost '/' refused for user 'alice'"
    else:
        assert peer.names() == ["exchange.declare-ok"]


def test_to_ask_whether_something_is_there_needs_no_right(world: World) -> None:
    make_user(world, "alice", "^$", "^$", "^$")
    world.connect().send(1, "queue.declare", queue="q")
    peer = world.connect(user="alice")
    peer.send(1, "queue.declare", queue="q", passive=True)
    peer.send(1, "exchange.declare", exchange="amq.direct", passive=True)
    assert peer.names() == ["queue.declare-ok", "exchange.declare-ok"]


# -- rights that go while a channel is open


def test_a_right_to_write_that_goes_is_gone_with_the_next_message(world: World, alice: User) -> None:
    peer = world.connect(user="alice")
    peer.send(1, "queue.declare", queue="q").take()
    peer.publish(1, "q", b"1").publish(1, "q", b"2")
    permit(world, alice, write="^other$")
    peer.publish(1, "q", b"3")
    assert "access to exchange 'amq.default' in vhost '/' refused" in refusal(peer)
    permit(world, alice)
    peer.publish(1, "q", b"4")
    assert peer.take() == []
    assert world.queue("q").ready_count() == 3


def test_a_verdict_is_found_out_once_for_a_route(world: World, alice: User) -> None:
    """Nobody looks at the permissions again until a verb has changed them."""
    restrict(world, alice, "^k", ".*")
    peer = world.connect(user="alice")
    for exchange in ("", "amq.topic"):
        peer.publish(1, "k", b"", exchange=exchange)
    alice.permissions["/"].patterns.clear()
    alice.permissions["/"].verdicts.clear()
    alice.topic_permissions.clear()
    for exchange in ("", "amq.topic"):
        peer.publish(1, "k", b"", exchange=exchange)
    assert peer.take() == []


def test_a_message_that_was_half_sent_is_not_published(world: World, alice: User) -> None:
    peer = world.connect(user="alice")
    peer.send(1, "queue.declare", queue="q").take()
    octets = message(1, "q", b"x" * 100)
    peer.publish(1, "q", b"1")
    peer.say(octets[:-50])
    permit(world, alice, write="^$")
    peer.say(octets[-50:])
    refusal(peer)
    assert world.queue("q").ready_count() == 1


def test_a_topic_permission_that_comes_counts_from_the_next_message(world: World, alice: User) -> None:
    peer = world.connect(user="alice")
    peer.publish(1, "k", b"", exchange="amq.topic").publish(1, "k", b"", exchange="amq.topic")
    restrict(world, alice, "^a", "")
    peer.publish(1, "k", b"", exchange="amq.topic")
    assert refusal(peer) == topic_refusal("k")
    world.broker.clear_topic_permission(alice, world.vhost, "amq.topic")
    peer.publish(1, "k", b"", exchange="amq.topic")
    assert peer.take() == []


def test_an_exchange_that_is_no_topic_exchange_any_more_is_not_guarded(world: World, alice: User) -> None:
    restrict(world, alice, "^a", "", "x")
    peer = world.connect(user="alice")
    peer.send(1, "exchange.declare", exchange="x", type="topic")
    peer.publish(1, "a", b"", exchange="x", headers={"CC": ["a"]})
    peer.send(1, "exchange.delete", exchange="x")
    peer.send(1, "exchange.declare", exchange="x", type="fanout").take()
    peer.publish(1, "a", b"", exchange="x", headers={"CC": ["b"]}).publish(1, "b", b"", exchange="x")
    assert peer.take() == []


def test_who_may_not_speak_for_others_any_more_is_stopped(world: World) -> None:
    world.broker.put_user("proxy", hash_password("proxy"), ["impersonator"], {})
    permit(world, world.broker.users["proxy"])
    peer = world.connect(user="proxy")
    peer.publish(1, "k", b"", user_id="bob").publish(1, "k", b"", user_id="bob")
    assert peer.take() == []
    world.broker.put_user("proxy", hash_password("proxy"), [], {})
    peer.publish(1, "k", b"", user_id="bob")
    [close] = peer.take()
    assert close.reply_text == (
        "PRECONDITION_FAILED - user_id property set to 'bob' but authenticated user was 'proxy'"
    )


def test_a_consumer_that_may_not_read_any_more_is_cancelled(world: World, alice: User) -> None:
    peer = world.connect(user="alice")
    for queue in ("q", "kept"):
        peer.send(1, "queue.declare", queue=queue).send(1, "basic.consume", queue=queue, consumer_tag=queue)
    peer.publish(1, "q", b"1").take()
    permit(world, alice, read="^kept$")
    [cancel] = peer.take()
    assert (cancel.name, cancel.consumer_tag, cancel.nowait) == ("basic.cancel", "q", True)
    peer.publish(1, "q", b"2").publish(1, "kept", b"3")
    assert peer.bodies() == [b"3"]
    # What it had is still its own.
    peer.send(1, "basic.ack", delivery_tag=1)
    assert peer.take() == []
    assert [world.queue("q").ready_count(), world.queue("q").unacked] == [1, 0]


def test_a_consumer_whose_client_cannot_be_told_stops_all_the_same(world: World, alice: User) -> None:
    peer = world.connect(user="alice", capabilities={})
    peer.send(1, "queue.declare", queue="q").send(1, "basic.consume", queue="q").take()
    permit(world, alice, read="^$")
    peer.publish(1, "q", b"1")
    assert peer.take() == []
    assert world.queue("q").ready_count() == 1


def test_no_consumer_of_the_user_gets_what_another_leaves(world: World, alice: User) -> None:
    peers = [world.connect(user="alice"), world.connect(user="alice")]
    peers[0].send(1, "queue.declare", queue="q", arguments={"x-single-active-consumer": True})
    for peer in peers:
        peer.send(1, "basic.qos", prefetch_count=1).send(1, "basic.consume", queue="q")
    for body in (b"1", b"2"):
        peers[0].publish(1, "q", body)
    assert [item.body for item in peers[0].take()][-1] == b"1"
    peers[1].take()
    permit(world, alice, read="^$")
    assert [peer.names() for peer in peers] == [["basic.cancel"], ["basic.cancel"]]
    assert world.queue("q").ready_count() == 1


def test_another_user_takes_over_what_one_may_not_read_any_more(world: World, alice: User) -> None:
    first, second = world.connect(user="alice"), world.connect()
    first.send(1, "queue.declare", queue="q", arguments={"x-single-active-consumer": True})
    for peer in (first, second):
        peer.send(1, "basic.consume", queue="q", no_ack=True).take()
    permit(world, alice, read="^$")
    first.publish(1, "q", b"1")
    assert first.names() == ["basic.cancel"]
    assert second.bodies() == [b"1"]


def test_an_auto_delete_queue_goes_with_the_consumer_that_is_cancelled(world: World, alice: User) -> None:
    peer = world.connect(user="alice")
    peer.send(1, "queue.declare", queue="q", auto_delete=True)
    peer.send(1, "basic.consume", queue="q").send(1, "basic.consume", queue="q").take()
    permit(world, alice, read="^$")
    assert peer.names() == ["basic.cancel"] * 2
    assert "q" not in world.vhost.queues


def test_direct_replies_need_no_right_to_read(world: World, alice: User) -> None:
    peer = world.connect(user="alice")
    peer.send(1, "basic.consume", queue="amq.rabbitmq.reply-to", no_ack=True).take()
    peer.publish(1, "amq.rabbitmq.reply-to", b"", reply_to="amq.rabbitmq.reply-to").take()
    permit(world, alice, read="^$")
    assert peer.take() == []


def test_a_right_that_did_not_go_cancels_nothing(world: World, alice: User) -> None:
    peer = world.connect(user="alice")
    peer.send(1, "queue.declare", queue="q").send(1, "basic.consume", queue="q").take()
    permit(world, alice, configure="^$", read="^q$")
    peer.publish(1, "q", b"1")
    assert peer.bodies() == [b"1"]


def test_others_in_the_same_virtual_host_go_on(world: World, alice: User) -> None:
    peer, other = world.connect(user="alice"), world.connect()
    peer.send(1, "queue.declare", queue="q")
    other.send(1, "basic.consume", queue="q").take()
    permit(world, alice, "^$", "^$", "^$")
    other.publish(1, "q", b"1")
    assert other.bodies() == [b"1"]


def test_definitions_that_are_loaded_again_count_at_once(world: World, alice: User) -> None:
    peer = world.connect(user="alice")
    peer.send(1, "queue.declare", queue="q").send(1, "basic.consume", queue="q")
    peer.publish(1, "k", b"", exchange="amq.topic").take()
    permission = {"user": "alice", "vhost": "/", "configure": "", "write": "^amq", "read": "^$"}
    topic = {"user": "alice", "vhost": "/", "exchange": "amq.topic", "write": "^{username}$", "read": ""}
    text = f'{{"permissions": [{permission}], "topic_permissions": [{topic}]}}'.replace("'", '"')
    load(read(text), world.broker)
    world.end_turn()
    assert peer.names() == ["basic.cancel"]
    peer.publish(1, "alice", b"", exchange="amq.topic")
    assert peer.take() == []
    peer.publish(1, "k", b"", exchange="amq.topic")
    assert refusal(peer) == topic_refusal("k")


# -- connections that end with a right


def test_the_connections_of_a_deleted_user_are_closed(world: World, alice: User) -> None:
    peers, other = [world.connect(user="alice"), world.connect(user="alice")], world.connect()
    world.broker.delete_user("alice")
    world.end_turn()
    text = "CONNECTION_FORCED - user 'alice' is deleted"
    assert [end(peer) for peer in peers] == [(320, text), (320, text)]
    assert other.take() == []
    peers[0].send(0, "connection.close-ok")
    assert peers[0].connection.finished


def test_what_they_held_goes_back_and_not_to_one_another(world: World, alice: User) -> None:
    peers = [world.connect(user="alice"), world.connect(user="alice")]
    peers[0].send(1, "queue.declare", queue="q").send(1, "queue.declare", queue="own", exclusive=True)
    for peer in peers:
        peer.send(1, "basic.consume", queue="q").take()
    peers[0].publish(1, "q", b"1").publish(1, "q", b"2")
    assert [len(peer.bodies()) for peer in peers] == [1, 1]
    world.broker.delete_user("alice")
    world.end_turn()
    assert [end(peer)[0] for peer in peers] == [320, 320]
    queue = world.queue("q")
    assert (queue.ready_count(), queue.unacked, len(queue.consumers)) == (2, 0, 0)
    assert "own" not in world.vhost.queues


def test_one_that_does_not_answer_is_dropped_after_a_while(world: World, alice: User) -> None:
    peer = world.connect(user="alice")
    world.pass_time(100)
    world.broker.delete_user("alice")
    world.pass_time(world.settings.close_timeout - 1)
    assert not peer.connection.finished
    world.pass_time(2)
    assert peer.connection.finished


def test_a_virtual_host_that_is_closed_to_a_user_closes_the_connections_to_it(
    world: World, alice: User
) -> None:
    other = world.broker.put_vhost("other", VirtualHostMetadata())
    world.broker.set_permission(alice, other, Permission(".*", ".*", ".*"))
    there, here = world.connect(user="alice", virtual_host="other"), world.connect(user="alice")
    world.broker.clear_permission(alice, other)
    world.end_turn()
    assert end(there) == (320, "CONNECTION_FORCED - access to vhost 'other' refused for user 'alice'")
    assert here.take() == []


def test_the_connections_to_a_deleted_virtual_host_are_closed(world: World, alice: User) -> None:
    other = world.broker.put_vhost("other", VirtualHostMetadata())
    world.broker.set_permission(alice, other, Permission(".*", ".*", ".*"))
    there, here = world.connect(user="alice", virtual_host="other"), world.connect(user="alice")
    there.send(1, "queue.declare", queue="q").send(1, "basic.consume", queue="q").take()
    world.broker.delete_vhost("other")
    world.end_turn()
    assert end(there) == (320, "CONNECTION_FORCED - vhost 'other' is deleted")
    assert here.take() == []
    assert not other.queues


def test_who_was_deleted_between_login_and_opening_does_not_get_in(world: World, alice: User) -> None:
    peer = logged_in(world, "alice")
    world.broker.delete_user("alice")
    assert opening(peer) == (530, "NOT_ALLOWED - access to vhost '/' refused for user 'alice'")


# -- limits


def logged_in(world: World, user: str) -> Peer:
    """A connection that has yet to open its virtual host."""
    peer = world.dial().say(b"AMQP\x00\x00\x09\x01")
    response = f"\0{user}\0{user}"
    peer.send(0, "connection.start-ok", mechanism="PLAIN", response=response)
    peer.send(0, "connection.tune-ok", channel_max=2047, frame_max=131072, heartbeat=0).take()
    return peer


def opening(peer: Peer) -> tuple[int, str] | None:
    """Code and text with which the virtual host was not opened; None if it was."""
    received = peer.reply(0, "connection.open", virtual_host="/")
    if received.name == "connection.open-ok":
        return None
    assert (received.class_id, received.method_id) == (10, 40)
    return received.reply_code, received.reply_text


def limit_vhost(world: World, **limits: int) -> None:
    named = {name.replace("_", "-"): value for name, value in limits.items()}
    world.vhost.parameters.set("vhost-limits", "limits", named)


def limit_user(world: World, user: User, **limits: int) -> None:
    named: dict[str, object] = {name.replace("_", "-"): value for name, value in limits.items()}
    world.broker.put_user(user.name, user.password, user.tags, named)


def test_a_virtual_host_takes_as_many_connections_as_it_may(world: World, alice: User) -> None:
    first = world.connect()
    limit_vhost(world, max_connections=2)
    world.connect(user="alice")
    text = "NOT_ALLOWED - access to vhost '/' refused for user 'alice': connection limit (2) is reached"
    assert opening(logged_in(world, "alice")) == (530, text)
    first.lose()
    assert opening(logged_in(world, "alice")) is None


def test_a_user_has_as_many_connections_as_it_may(world: World, alice: User) -> None:
    limit_user(world, alice, max_connections=1)
    first = world.connect(user="alice")
    text = "NOT_ALLOWED - connection refused for user 'alice': user connection limit (1) is reached"
    assert opening(logged_in(world, "alice")) == (530, text)
    world.connect()
    first.send(0, "connection.close")
    assert opening(logged_in(world, "alice")) is None


@pytest.mark.parametrize("limit", [-1, 0])
def test_a_limit_of_0_admits_nobody_and_one_below_everybody(world: World, alice: User, limit: int) -> None:
    limit_vhost(world, max_connections=limit)
    found = opening(logged_in(world, "alice"))
    assert (found is None) == (limit < 0)
    limit_vhost(world)
    limit_user(world, alice, max_connections=limit)
    found = opening(logged_in(world, "alice"))
    assert (found is None) == (limit < 0)


def test_the_limit_of_the_virtual_host_comes_first_and_the_permission_last(world: World, alice: User) -> None:
    limit_vhost(world, max_connections=0)
    limit_user(world, alice, max_connections=0)
    world.broker.clear_permission(alice, world.vhost)
    assert "connection limit (0)" in str(opening(logged_in(world, "alice")))
    limit_vhost(world)
    assert "user connection limit (0)" in str(opening(logged_in(world, "alice")))
    limit_user(world, alice)
    assert opening(logged_in(world, "alice")) == (
        530,
        "NOT_ALLOWED - access to vhost '/' refused for user 'alice'",
    )


def test_connections_that_are_open_stay_when_a_limit_comes(world: World, alice: User) -> None:
    peer = world.connect(user="alice")
    limit_vhost(world, max_connections=0)
    limit_user(world, alice, max_connections=0)
    peer.send(1, "queue.declare", queue="q")
    assert peer.names() == ["queue.declare-ok"]


def test_a_user_has_as_many_channels_as_it_may_on_all_connections(world: World, alice: User) -> None:
    limit_user(world, alice, max_channels=3)
    first, second = world.connect(user="alice", channels=2), world.connect(user="alice", channels=1)
    second.send(2, "channel.open")
    text = "number of channels opened for user 'alice' has reached the maximum allowed user limit of (3)"
    assert end(second) == (530, f"NOT_ALLOWED - {text}")
    first.send(3, "channel.open")
    assert first.names() == ["channel.open-ok"]
    first.send(1, "channel.close").send(4, "channel.open")
    assert first.names() == ["channel.close-ok", "channel.open-ok"]


def test_a_channel_that_an_error_closed_does_not_count(world: World, alice: User) -> None:
    limit_user(world, alice, max_channels=1)
    peer = world.connect(user="alice")
    peer.send(1, "basic.ack", delivery_tag=9).send(2, "channel.open")
    assert peer.names() == ["channel.close", "channel.open-ok"]
    peer.send(1, "channel.close-ok").lose()
    assert alice.channels == 0


def test_a_virtual_host_has_as_many_queues_as_it_may(world: World, alice: User) -> None:
    limit_vhost(world, max_queues=2)
    peer = world.connect()
    peer.send(1, "queue.declare", queue="a").send(1, "queue.declare", queue="", exclusive=True).take()
    peer.send(1, "queue.declare", queue="c")
    [close] = peer.take()
    text = "PRECONDITION_FAILED - cannot declare queue 'c': queue limit in vhost '/' (2) is reached"
    assert (close.reply_code, close.reply_text) == (406, text)
    peer.send(1, "channel.close-ok").send(1, "channel.open").take()
    peer.send(1, "queue.declare", queue="a")
    peer.send(1, "basic.consume", queue="amq.rabbitmq.reply-to", no_ack=True)
    peer.send(1, "queue.delete", queue="a").send(1, "queue.declare", queue="c")
    assert peer.names() == ["queue.declare-ok", "basic.consume-ok", "queue.delete-ok", "queue.declare-ok"]


def test_queues_for_direct_replies_do_not_count(world: World) -> None:
    peer = world.connect(channels=2)
    for channel in (1, 2):
        peer.send(channel, "basic.consume", queue="amq.rabbitmq.reply-to", no_ack=True)
    limit_vhost(world, max_queues=1)
    peer.send(1, "channel.close").take()
    peer.send(2, "queue.declare", queue="a")
    assert peer.names() == ["queue.declare-ok"]
    assert world.vhost.reply_queues == 1


def test_all_connections_together_have_as_many_channels_as_they_may(world: World) -> None:
    world.settings.node_limits.channels = 3
    first, second = world.connect(channels=2), world.connect(channels=1)
    second.send(2, "channel.open")
    text = "number of channels opened on node 'rabbit@localhost' has reached the maximum allowed limit of (3)"
    assert end(second) == (530, f"NOT_ALLOWED - {text}")
    first.send(3, "channel.open")
    assert first.names() == ["channel.open-ok"]


def test_all_virtual_hosts_together_have_as_many_queues_as_they_may(world: World) -> None:
    world.settings.node_limits.queues = 2
    world.broker.put_vhost("other", VirtualHostMetadata())
    world.broker.permit(world.guest, "other", Permission(".*", ".*", ".*"))
    world.connect(virtual_host="other").send(1, "queue.declare", queue="a")
    peer = world.connect()
    peer.send(1, "queue.declare", queue="b").send(1, "queue.declare", queue="b")
    assert peer.names() == ["queue.declare-ok"] * 2
    peer.send(1, "queue.declare", queue="c")
    [close] = peer.take()
    text = "PRECONDITION_FAILED - cannot declare queue 'c': queue limit in cluster (2) is reached"
    assert (close.reply_code, close.reply_text) == (406, text)


def test_a_new_secret_is_taken(world: World, alice: User) -> None:
    peer = world.connect(user="alice")
    received = peer.reply(0, "connection.update-secret", new_secret="x", reason="rotation")
    assert received.name == "connection.update-secret-ok"
    peer.send(1, "queue.declare", queue="q")
    assert peer.names() == ["queue.declare-ok"]


# -- what comes first, as RabbitMQ 3.10.8 has it

NOTHING = "refused for user 'nobody'"
DEFAULT = "operation not permitted on the default exchange"
FIRST: list[tuple[str, dict[str, Any], str]] = [
    ("queue.declare", {"queue": "amq.x"}, "queue name 'amq.x' contains reserved prefix 'amq.*'"),
    ("exchange.declare", {"exchange": "", "type": "direct"}, DEFAULT),
    ("exchange.delete", {"exchange": ""}, DEFAULT),
    (
        "exchange.delete",
        {"exchange": "amq.topic"},
        "deletion of system exchange 'amq.topic' in vhost '/' not allowed",
    ),
    (
        "exchange.declare",
        {"exchange": "amq.x", "type": "direct"},
        f"access to exchange 'amq.x' in vhost '/' {NOTHING}",
    ),
    ("queue.bind", {"queue": "q", "exchange": ""}, f"access to queue 'q' in vhost '/' {NOTHING}"),
    ("queue.unbind", {"queue": "q", "exchange": ""}, f"access to queue 'q' in vhost '/' {NOTHING}"),
    (
        "exchange.bind",
        {"destination": "", "source": "x"},
        f"access to exchange 'amq.default' in vhost '/' {NOTHING}",
    ),
    ("exchange.unbind", {"destination": "x", "source": ""}, f"access to exchange 'x' in vhost '/' {NOTHING}"),
    ("queue.delete", {"queue": "none"}, f"access to queue 'none' in vhost '/' {NOTHING}"),
    ("basic.get", {"queue": "none"}, f"access to queue 'none' in vhost '/' {NOTHING}"),
    ("basic.consume", {"queue": "none"}, f"access to queue 'none' in vhost '/' {NOTHING}"),
]


@pytest.mark.parametrize(("method", "arguments", "text"), FIRST)
def test_of_several_reasons_to_refuse_the_first_is_told(
    world: World, method: str, arguments: dict[str, Any], text: str
) -> None:
    make_user(world, "nobody", "^$", "^$", "^$")
    peer = world.connect(user="nobody")
    peer.send(1, method, **arguments)
    assert refusal(peer) == f"ACCESS_REFUSED - {text}"


def test_a_limit_comes_before_the_rights_to_dead_letters(world: World) -> None:
    make_user(world, "alice", ".*", "^$", "^$")
    limit_vhost(world, max_queues=0)
    peer = world.connect(user="alice")
    peer.send(1, "queue.declare", queue="q", arguments={"x-dead-letter-exchange": "x", "x-message-ttl": -1})
    assert "queue limit in vhost '/' (0) is reached" in peer.take()[0].reply_text
