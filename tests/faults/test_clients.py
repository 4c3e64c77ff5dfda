"""Clients that misbehave without malice: they stop reading, vanish, come and go, or come in thousands."""

from __future__ import annotations

import os
import signal
import socket
import threading
from typing import Final

import pytest

from tests.conversations.client import Channel, Client
from tests.faults.faults import (
    PATIENCE,
    Publisher,
    connect,
    descriptors,
    log_has,
    own_memory,
    pass_a_second,
    pass_two_seconds,
    wait_until,
)
from tests.server.broker_process import BrokerProcess

MIB: Final = 1 << 20
KIB: Final = 1 << 10
# What the kernel may hold between two sockets of this machine, generously.
SOCKETS: Final = 16 * MIB


def publish_numbered(channel: Channel, queue: str, count: int, size: int) -> None:
    for number in range(count):
        channel.publish(b"%08d" % number + bytes(size - 8), routing_key=queue)


def numbers_that_come(channel: Channel) -> list[int]:
    """Of deliveries, until there is a pause."""
    numbers: list[int] = []
    while True:
        try:
            reply = channel.client.receive(channel.number, deadline=0.3)
        except AssertionError:
            return numbers
        numbers.append(int(reply.body[:8]))


# -- consumers that stop reading


@pytest.mark.parametrize("no_ack", [True, False], ids=["no ack", "manual ack"])
def test_a_consumer_that_does_not_read_holds_little_and_others_get_the_rest(
    own_broker: BrokerProcess, no_ack: bool
) -> None:
    own_broker.start()
    count = 96
    publisher = connect(own_broker).channel()
    publisher.declare("q")
    publish_numbered(publisher, "q", count, MIB)
    publisher.counts_become("q", count, 0)
    stuck = connect(own_broker).channel()
    stuck.consume("q", no_ack=no_ack)
    reader = connect(own_broker).channel()
    reader.consume("q", no_ack=True)
    got = []
    while publisher.counts("q")[0]:
        got += numbers_that_come(reader)
    # What is answered on the same connection comes behind the last of them.
    reader.client.channel()
    got += numbers_that_come(reader)
    held = count - len(got)
    assert 0 < held * MIB <= SOCKETS + 2 * MIB
    assert got == sorted(got)
    rest = [int(reply.body[:8]) for reply in stuck.deliveries(held)]
    assert sorted(got + rest) == list(range(count))


def test_memory_does_not_grow_with_what_a_consumer_does_not_read(
    own_broker: BrokerProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AMQP_BROKER_LIMITS_MESSAGES_IN_MEMORY", "8 MiB")
    own_broker.start()
    publisher = connect(own_broker).channel()
    publisher.declare("q")
    stuck = connect(own_broker).channel()
    stuck.consume("q", no_ack=True)
    before = own_memory(own_broker.pid)
    publish_numbered(publisher, "q", 3000, 64 * KIB)
    publisher.counts("q")
    wait_until(lambda: own_memory(own_broker.pid) < before + 64 * MIB, "memory to be given back")
    got = [int(reply.body[:8]) for reply in stuck.deliveries(3000)]
    assert got == list(range(3000))


# -- publishers faster than the disk


def test_a_publisher_is_read_no_faster_than_the_disk_writes(
    own_broker: BrokerProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AMQP_BROKER_LIMITS_UNCOMMITTED_MAX", "4 MiB")
    own_broker.start()
    other = connect(own_broker).channel()
    other.declare("q", durable=True)
    publisher = Publisher(own_broker, "q")
    (writer,) = own_broker.writers()
    before = own_memory(own_broker.pid)
    publishing = threading.Thread(target=publish_much, args=(publisher,))
    os.kill(writer, signal.SIGSTOP)
    try:
        publishing.start()
        pass_a_second(own_broker)
        assert other.counts("q")[0] * 64 * KIB < 8 * MIB
        assert own_memory(own_broker.pid) < before + 32 * MIB
        consumer = connect(own_broker).channel()
        consumer.publish("m", routing_key=consumer.declare("transient"))
        assert consumer.drain("transient") == ["m"]
        consumer.client.is_alive()
    finally:
        os.kill(writer, signal.SIGCONT)
        publishing.join()
    publisher.all_confirmed()
    assert other.counts("q") == (len(publisher.bodies), 0)


def publish_much(publisher: Publisher) -> None:
    for number in range(1000):
        publisher.publish(f"{number} " + "x" * 64 * KIB)


# -- connections that are not what they seem


def test_heartbeats_find_a_half_open_connection_and_its_messages_go_to_others(
    own_broker: BrokerProcess,
) -> None:
    own_broker.start()
    other = connect(own_broker).channel()
    other.declare("q")
    other.publish("m", routing_key="q")
    silent = connect(own_broker, heartbeat=1)
    consumer = silent.channel()
    consumer.consume("q", no_ack=False)
    consumer.expect("basic.deliver", redelivered=False)
    redelivered = other.arrival("q", deadline=PATIENCE)
    assert (redelivered.body, redelivered["redelivered"]) == (b"m", True)
    log_has(own_broker, "missed heartbeats from client, timeout: 1s")


def test_a_connection_that_says_nothing_at_all_is_ended(
    own_broker: BrokerProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AMQP_BROKER_PROTOCOL_HANDSHAKE_TIMEOUT", "1")
    own_broker.start()
    with socket.create_connection(("127.0.0.1", own_broker.port), timeout=PATIENCE) as silent:
        assert silent.recv(1) == b""


def open_and_close(broker: BrokerProcess, count: int, politely: bool) -> None:
    for _ in range(count):
        client = connect(broker)
        client.channel().declare("", exclusive=True)
        if politely:
            client.close()
        client.drop()


def test_thousands_of_connections_leave_nothing_behind(own_broker: BrokerProcess) -> None:
    own_broker.start()
    open_and_close(own_broker, 300, politely=True)
    wait_until(lambda: descriptors(own_broker.pid) < 100, "sockets to be closed")
    memory, open_before = own_memory(own_broker.pid), descriptors(own_broker.pid)
    # More than the broker waits for until it collects garbage, and frees the memory.
    open_and_close(own_broker, 1500, politely=True)
    open_and_close(own_broker, 300, politely=False)
    wait_until(lambda: descriptors(own_broker.pid) <= open_before, "sockets to be closed")
    wait_until(lambda: own_memory(own_broker.pid) < memory + 24 * MIB, "memory to be given back")


# -- many idle connections

IDLE: Final = int(os.environ.get("AMQP_TEST_IDLE_CONNECTIONS", "400"))


def test_an_idle_connection_takes_less_than_40_kib(own_broker: BrokerProcess) -> None:
    """With a channel, a consumer, and a past: each has published and received a message."""
    own_broker.start()
    before = own_memory(own_broker.pid)
    idle = [idle_connection(own_broker) for _ in range(IDLE)]
    taken = (own_memory(own_broker.pid) - before) / IDLE
    print(f"{IDLE} idle connections: {taken / KIB:.1f} KiB each")
    assert taken < 40 * KIB
    for client in idle:
        client.drop()
    wait_until(lambda: descriptors(own_broker.pid) < 100, "sockets to be closed")


def idle_connection(broker: BrokerProcess) -> Client:
    client = connect(broker)
    channel = client.channel()
    queue = channel.declare("", exclusive=True)
    channel.consume(queue, no_ack=True)
    channel.publish("m", routing_key=queue)
    channel.expect("basic.deliver")
    return client


# -- alarms


@pytest.fixture
def low_disk(own_broker: BrokerProcess, monkeypatch: pytest.MonkeyPatch) -> BrokerProcess:
    monkeypatch.setenv("AMQP_BROKER_LIMITS_DISK_FREE_LIMIT", "1000000 GiB")
    own_broker.start()
    log_has(own_broker, "alarms: low on disk (resident memory ")
    return own_broker


def test_only_who_publishes_is_blocked(low_disk: BrokerProcess) -> None:
    consumer = connect(low_disk)
    channel = consumer.channel()
    queue = channel.declare("")
    channel.consume(queue, no_ack=True)
    publisher = connect(low_disk)
    publisher.channel().publish("m", routing_key=queue)
    publisher.expect("connection.blocked", reason="low on disk")
    consumer.is_alive()
    channel.hears_nothing(queue)


def test_who_did_not_announce_it_hears_nothing_and_is_blocked_all_the_same(low_disk: BrokerProcess) -> None:
    consumer = connect(low_disk).channel()
    queue = consumer.declare("")
    publisher = connect(low_disk, heartbeat=1, tells_blocked=False)
    channel = publisher.channel()
    channel.publish("1", routing_key=queue)
    channel.publish("2", routing_key=queue)
    assert publisher.receive_frame_name(PATIENCE) == "heartbeat"
    assert consumer.counts(queue)[0] == 0


def test_heartbeats_go_on_both_ways_while_a_publisher_is_blocked(low_disk: BrokerProcess) -> None:
    publisher = connect(low_disk, heartbeat=1)
    publisher.channel().publish("m")
    publisher.expect("connection.blocked", reason="low on disk")
    pass_two_seconds(low_disk)
    for _ in range(3):
        assert publisher.receive_frame_name(PATIENCE) == "heartbeat"
