"""Heartbeats over hours, alarms, and what a defect on one connection does to the others: nothing."""

from __future__ import annotations

import pytest

from tests.session.world import Peer, World, message, method


@pytest.fixture
def world() -> World:
    return World()


HEARTBEAT = b"\x08\0\0\0\0\0\0\xce"


def test_a_silent_client_is_dropped_after_two_heartbeats(world: World) -> None:
    peer = world.connect(heartbeat=60)
    world.pass_time(119)
    assert not peer.connection.finished
    world.pass_time(1)
    assert peer.connection.finished
    assert peer.connection.close_reason == "missed heartbeats from client, timeout: 60s"


def test_heartbeats_go_out_at_least_twice_in_each_interval_of_silence(world: World) -> None:
    peer = world.connect(heartbeat=60)
    silence = 0
    for _ in range(600):
        peer.say(HEARTBEAT)
        world.pass_time(1)
        silence = 0 if peer.names() == ["heartbeat"] else silence + 1
        assert silence <= 30


def test_heartbeats_do_not_go_out_much_more_often(world: World) -> None:
    peer = world.connect(heartbeat=60)
    for _ in range(20):
        world.pass_time(30)
        peer.say(HEARTBEAT)
    assert 20 <= len(peer.names()) <= 30


def test_a_client_that_sends_heartbeats_lives_for_hours(world: World) -> None:
    peer = world.connect(heartbeat=10)
    for _ in range(6 * 360):
        world.pass_time(10)
        peer.say(HEARTBEAT)
    assert not peer.connection.finished
    assert set(peer.names()) == {"heartbeat"}


@pytest.mark.parametrize("octets", [method(1, "basic.qos"), method(1, "basic.qos")[:3], HEARTBEAT])
def test_any_octet_is_a_sign_of_life(world: World, octets: bytes) -> None:
    peer = world.connect(heartbeat=60)
    world.pass_time(119)
    peer.say(octets)
    world.pass_time(119)
    assert not peer.connection.finished


def test_other_output_takes_the_place_of_heartbeats(world: World) -> None:
    peer = world.connect(heartbeat=60)
    for _ in range(30):
        world.pass_time(20)
        peer.send(1, "basic.qos")
    assert peer.names() == ["basic.qos-ok"] * 30


def test_a_client_without_heartbeats_is_neither_told_nor_dropped(world: World) -> None:
    peer = world.connect(heartbeat=0)
    world.pass_time(100_000, step=100)
    assert peer.take() == []
    assert not peer.connection.finished


def test_a_paused_client_is_not_expected_to_be_heard(world: World) -> None:
    peer = world.connect(heartbeat=10)
    world.broker.alarms.append("low on memory")
    peer.publish(1, "q", b"m")
    world.pass_time(1000)
    assert not peer.connection.finished
    assert "heartbeat" in peer.names()


def test_a_client_whose_socket_is_not_read_is_not_expected_to_be_heard(world: World) -> None:
    peer = world.connect(heartbeat=10)
    peer.connection.unread = True
    world.pass_time(1000)
    assert not peer.connection.finished
    assert "heartbeat" in peer.names()


def test_a_client_that_is_read_again_is_expected_to_be_heard_from_then_on(world: World) -> None:
    peer = world.connect(heartbeat=10)
    peer.connection.unread = True
    world.pass_time(1000)
    peer.connection.unread, peer.connection.last_received = False, world.now
    world.pass_time(19)
    assert not peer.connection.finished
    world.pass_time(1)
    assert peer.connection.finished


# -- alarms


def test_a_publisher_is_told_of_an_alarm_once_and_paused(world: World) -> None:
    peer = world.connect()
    world.broker.alarms.append("low on disk")
    peer.publish(1, "q", b"m").publish(1, "q", b"m")
    received = peer.take()
    assert [(item.name, item.reason) for item in received] == [("connection.blocked", "low on disk")]
    assert peer.connection.paused


def test_who_does_not_publish_is_left_alone(world: World) -> None:
    peer = world.connect()
    world.broker.alarms.append("low on disk")
    assert peer.reply(1, "queue.declare", queue="q").name == "queue.declare-ok"
    assert not peer.connection.paused


def test_the_end_of_an_alarm_is_told_to_those_who_were_paused(world: World) -> None:
    paused, other = world.connect(), world.connect()
    world.broker.alarms.append("low on disk")
    paused.publish(1, "q", b"m").take()
    world.broker.alarms.clear()
    for peer in (paused, other):
        peer.connection.alarm_cleared()
    world.end_turn()
    assert paused.names() == ["connection.unblocked"]
    assert other.names() == []
    assert not paused.connection.paused
    paused.publish(1, "q", b"m")
    assert paused.names() == []


def test_who_cannot_hear_of_alarms_is_paused_all_the_same(world: World) -> None:
    peer = world.connect(capabilities={})
    world.broker.alarms.append("low on disk")
    peer.publish(1, "q", b"m")
    assert peer.connection.paused
    peer.connection.alarm_cleared()
    world.end_turn()
    assert peer.take() == []


def test_what_was_published_during_an_alarm_is_not_lost(world: World) -> None:
    peer = world.connect()
    peer.send(1, "queue.declare", queue="q")
    world.broker.alarms.append("low on disk")
    peer.say(message(1, "q", b"1") + message(1, "q", b"2"))
    assert world.queue("q").ready_count() == 2


# -- defects


def crash(peer: Peer, world: World) -> None:
    """Have something go wrong that no client can be blamed for, and do what the server does then."""
    peer.connection.crashed()
    world.end_turn()
    peer.connection.lost()
    world.end_turn()


def test_a_defect_ends_its_connection_with_internal_error_and_harms_nobody_else(world: World) -> None:
    unlucky, other = world.connect(), world.connect()
    other.send(1, "queue.declare", queue="q").publish(1, "q", b"1").take()
    unlucky.send(1, "queue.declare", queue="own", exclusive=True).send(1, "basic.get", queue="q").take()
    crash(unlucky, world)
    close = unlucky.take()[0]
    assert (close.name, close.reply_code, close.reply_text) == ("connection.close", 541, "INTERNAL_ERROR")
    assert unlucky.connection.finished
    got = other.reply(1, "basic.get", queue="q")
    assert (got.body, got.redelivered) == (b"1", True)
    assert list(world.vhost.queues) == ["q"]


def test_a_defect_during_the_handshake_is_the_end_without_a_word(world: World) -> None:
    peer = world.dial()
    peer.say(b"AMQP\0\0\x09\1").take()
    crash(peer, world)
    assert peer.take() == []
    assert peer.connection.finished
