"""Too few file descriptors, and no memory: others are served, and it ends by itself."""

from __future__ import annotations

import json
import resource
import socket
from collections.abc import Iterator

import pytest

from tests.faults.faults import (
    PERSISTENT,
    Publisher,
    connect,
    descriptors,
    is_calm,
    limit,
    log_has,
    virtual_size,
    wait_until,
)
from tests.server.broker_process import PROTOCOL_HEADER, BrokerProcess

MIB = 1 << 20
FEW = 48
MANY = 80
NO_MEMORY = "no memory left to write the store with"


class Crowd:
    """Sockets that are opened and say hello."""

    def __init__(self, broker: BrokerProcess) -> None:
        self._broker = broker
        self._sockets: list[socket.socket] = []

    def come(self, count: int) -> int:
        """So many come; how many of them are answered."""
        answered = 0
        for _ in range(count):
            one = socket.create_connection(("127.0.0.1", self._broker.port), timeout=30)
            self._sockets.append(one)
            try:
                one.sendall(PROTOCOL_HEADER)
                answered += one.recv(1) == b"\x01"
            except (ConnectionResetError, BrokenPipeError):
                continue
        return answered

    def leave_one_place(self) -> None:
        """The first goes, and the broker has taken note."""
        before = descriptors(self._broker.pid)
        self._sockets.pop(0).close()
        wait_until(lambda: descriptors(self._broker.pid) < before, "a place")

    def go(self) -> None:
        while self._sockets:
            self._sockets.pop().close()


@pytest.fixture
def crowd(own_broker: BrokerProcess, monkeypatch: pytest.MonkeyPatch) -> Iterator[Crowd]:
    monkeypatch.setenv("AMQP_BROKER_PROTOCOL_HANDSHAKE_TIMEOUT", "300")  # they say no more than hello
    crowd = Crowd(own_broker)
    yield crowd
    crowd.go()


# -- file descriptors


def test_connections_beyond_the_descriptors_are_refused_and_others_are_served(
    own_broker: BrokerProcess, crowd: Crowd
) -> None:
    own_broker.start()
    channel = connect(own_broker).channel()
    channel.declare("q")
    limit(own_broker.pid, resource.RLIMIT_NOFILE, FEW)
    answered = crowd.come(MANY)
    assert 0 < answered < MANY
    assert descriptors(own_broker.pid) < FEW
    channel.publish("m", routing_key="q")
    assert channel.drain("q") == ["m"]
    when_full = descriptors(own_broker.pid)
    crowd.go()
    wait_until(lambda: descriptors(own_broker.pid) <= when_full - answered, "room")
    assert crowd.come(1) == 1


def test_being_full_costs_no_time_and_is_logged_once_at_its_begin_and_once_at_its_end(
    own_broker: BrokerProcess, crowd: Crowd
) -> None:
    own_broker.start()
    limit(own_broker.pid, resource.RLIMIT_NOFILE, FEW)
    refused = MANY - crowd.come(MANY)
    log_has(own_broker, f"of {FEW} file descriptors are in use")
    crowd.leave_one_place()
    is_calm(own_broker)
    log_has(own_broker, f"connections are accepted again; {refused} were refused")
    log_has(own_broker, "connections are refused")


def test_messages_spill_and_are_confirmed_with_no_descriptor_left_for_clients(
    own_broker: BrokerProcess, crowd: Crowd, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AMQP_BROKER_LIMITS_MESSAGES_IN_MEMORY", "64 KiB")
    own_broker.start()
    channel = connect(own_broker).channel()
    channel.declare("q", durable=True)
    publisher = Publisher(own_broker, "q")
    limit(own_broker.pid, resource.RLIMIT_NOFILE, FEW)
    crowd.come(MANY)
    for number in range(2000):
        publisher.publish(f"{number} " + "x" * 1000)
    publisher.all_confirmed()
    assert channel.drain("q") == publisher.bodies


def test_the_broker_takes_as_many_descriptors_as_it_may_have(
    own_broker: BrokerProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(soft, 256), hard))
    try:
        own_broker.start()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert resource.prlimit(own_broker.pid, resource.RLIMIT_NOFILE) == (hard, hard)


def test_a_configured_number_of_connections_is_kept_to(
    own_broker: BrokerProcess, crowd: Crowd, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AMQP_BROKER_LIMITS_CONNECTION_MAX", "5")
    own_broker.start()
    assert crowd.come(20) == 5
    log_has(
        own_broker, "connections are refused: there are 5 already, as many as limits.connection_max allows"
    )


# -- memory


def test_a_message_that_memory_has_no_room_for_ends_its_connection_alone(own_broker: BrokerProcess) -> None:
    own_broker.start()
    other = connect(own_broker).channel()
    other.declare("q", durable=True)
    client = connect(own_broker)
    channel = client.channel()
    limit(own_broker.pid, resource.RLIMIT_AS, virtual_size(own_broker.pid) + 24 * MIB)
    channel.publish(bytes(100 * MIB), routing_key="q", **PERSISTENT)
    client.ends(541, 0)
    log_has(own_broker, "no memory for what it sent: closed")
    assert other.counts("q") == (0, 0)
    publisher = Publisher(own_broker, "q")
    publisher.publish("small")
    publisher.all_confirmed()
    assert other.drain("q") == ["small"]
    limit(own_broker.pid, resource.RLIMIT_AS, resource.RLIM_INFINITY)
    publisher.publish("x" * 8 * MIB)
    publisher.all_confirmed(first=2)


def test_a_batch_that_memory_has_no_room_for_waits_until_there_is(own_broker: BrokerProcess) -> None:
    own_broker.start()
    other = connect(own_broker).channel()
    other.declare("q", durable=True)
    other.publish("transient", routing_key=other.declare("transient"))
    publisher = Publisher(own_broker, "q")
    limit(own_broker.pid, resource.RLIMIT_AS, virtual_size(own_broker.pid) + 48 * MIB)
    publisher.publish("x" * 32 * MIB)
    log_has(own_broker, "no memory for a batch of")
    assert other.drain("transient") == ["transient"]
    publisher.publish_until_blocked("the store cannot write")
    is_calm(own_broker)
    limit(own_broker.pid, resource.RLIMIT_AS, resource.RLIM_INFINITY)
    publisher.all_confirmed()
    publisher.unblocked()
    own_broker.kill()
    own_broker.start()
    assert connect(own_broker).channel().drain("q") == publisher.bodies


@pytest.mark.parametrize("form", ["text", "json"])
def test_a_writer_without_memory_ends_the_broker_with_a_word_and_nothing_confirmed_is_lost(
    own_broker: BrokerProcess, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    monkeypatch.setenv("AMQP_BROKER_LOG_FORMAT", form)
    own_broker.start()
    connect(own_broker).channel().declare("q", durable=True)
    publisher = Publisher(own_broker, "q")
    publisher.publish("small")
    publisher.all_confirmed()
    (writer,) = own_broker.writers()
    limit(writer, resource.RLIMIT_AS, virtual_size(writer) + 24 * MIB)
    publisher.publish("x" * 64 * MIB)
    assert own_broker.wait_ended() == 1
    (word,) = [line for line in own_broker.stderr().splitlines() if "no memory left to write" in line]
    # The writer is another process, but its line one of the log.
    if form == "json":
        said = json.loads(word)
        assert (said["level"], said["message"]) == ("warning", f"the store's writer: {NO_MEMORY}")
    else:
        assert word.endswith(f" [WARNING] the store's writer: {NO_MEMORY}")
    assert "the store's writer has stopped" in own_broker.stderr().splitlines()[-1]
    own_broker.start()
    assert connect(own_broker).channel().drain("q")[:1] == ["small"]
