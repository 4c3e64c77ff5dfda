"""Messages that memory has no room for, and a disk that does not take them or does not give them back."""

from __future__ import annotations

import resource
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conversations.client import Channel
from tests.faults.faults import (
    PATIENCE,
    PERSISTENT,
    Publisher,
    Unprivileged,
    connect,
    drop_all,
    inject,
    limit,
    log_has,
    spilled,
    wait_until,
)
from tests.server.broker_process import BrokerProcess

MIB = 1 << 20
# So short that it is spilled, although the store has it.
BODY = "x" * 450
COUNT = 6000
LIMIT = 256 << 10


@pytest.fixture(autouse=True)
def little_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AMQP_BROKER_LIMITS_MESSAGES_IN_MEMORY", "64 KiB")


@pytest.fixture
def unprivileged(tmp_path: Path) -> Iterator[BrokerProcess]:
    process = Unprivileged(tmp_path / "data")
    yield process
    if process.data.exists():
        process.data.chmod(stat.S_IRWXU)
    process.kill()
    assert "Traceback" not in process.stderr(), process.stderr()


def wait_written(broker: BrokerProcess) -> None:
    """Return when all that is persistent is on the disk: a durable queue is declared when it is, behind all before."""
    connect(broker).channel().declare("mark", durable=True)


def fill(
    channel: Channel, queue: str, count: int = COUNT, delivered: int = 0, **properties: Any
) -> list[str]:
    """Publish numbered messages; returns their bodies once the broker has them all, but for those delivered."""
    bodies = [f"{number} {BODY}" for number in range(count)]
    before = channel.counts(queue)[0]
    for body in bodies:
        channel.publish(body, routing_key=queue, **properties)
    assert channel.counts(queue)[0] == before + count - delivered
    return bodies


def test_what_cannot_be_spilled_stays_in_memory(own_broker: BrokerProcess) -> None:
    own_broker.start()
    channel = connect(own_broker).channel()
    channel.declare("q")
    limit(own_broker.pid, resource.RLIMIT_FSIZE, LIMIT)
    bodies = fill(channel, "q")
    wait_until(lambda: spilled(own_broker) >= 0, "an attempt to spill")
    assert channel.counts("q") == (COUNT, 0)
    assert spilled(own_broker) <= LIMIT
    log_has(own_broker, "messages cannot leave memory: File too large (resident memory ")
    assert channel.drain("q") == bodies


def test_and_is_spilled_as_soon_as_there_is_room(own_broker: BrokerProcess) -> None:
    own_broker.start()
    channel = connect(own_broker).channel()
    channel.declare("q")
    limit(own_broker.pid, resource.RLIMIT_FSIZE, LIMIT)
    bodies = fill(channel, "q")
    log_has(own_broker, "messages cannot leave memory")
    limit(own_broker.pid, resource.RLIMIT_FSIZE, resource.RLIM_INFINITY)
    wait_until(lambda: spilled(own_broker) > LIMIT, "room to be used")
    log_has(own_broker, "messages can leave memory again")
    assert channel.drain("q") == bodies


def test_the_memory_alarm_then_blocks_who_publishes(
    own_broker: BrokerProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AMQP_BROKER_LIMITS_MEMORY_HIGH_WATERMARK_ABSOLUTE", "60 MiB")
    own_broker.start()
    client = connect(own_broker)
    channel = client.channel()
    channel.declare("q")
    limit(own_broker.pid, resource.RLIMIT_FSIZE, LIMIT)
    published = 0
    while True:
        assert published < 400, "no alarm"
        channel.publish(f"{published} " + "x" * MIB, routing_key="q")
        published += 1
        try:
            reply = client.receive(deadline=0.02)
        except AssertionError:
            continue
        assert (reply.name, reply["reason"]) == ("connection.blocked", "low on memory")
        break
    log_has(own_broker, "alarms: low on memory (resident memory ")
    consumer = connect(own_broker).channel()
    drained = [int(body.split()[0]) for body in consumer.drain("q")]
    reply = client.receive(0, deadline=PATIENCE)
    assert reply.name == "connection.unblocked"
    client.is_alive()
    drained += [int(body.split()[0]) for body in consumer.drain("q")]
    assert drained == list(range(published))


def test_a_directory_that_became_read_only_is_no_reason_to_stop(unprivileged: BrokerProcess) -> None:
    unprivileged.start()
    channel = connect(unprivileged).channel()
    channel.declare("q")
    channel.declare("durable", durable=True)
    unprivileged.data.chmod(stat.S_IRUSR | stat.S_IXUSR)
    bodies = fill(channel, "q")
    publisher = Publisher(unprivileged, "durable")
    publisher.publish()
    publisher.all_confirmed()
    assert channel.drain("q") == bodies
    drop_all()
    assert unprivileged.stop() == 0


def test_a_read_only_directory_is_refused_at_the_start(unprivileged: BrokerProcess) -> None:
    unprivileged.data.mkdir()
    unprivileged.data.chmod(stat.S_IRUSR | stat.S_IXUSR)
    unprivileged.launch()
    assert unprivileged.wait_ended() == 1
    (line,) = unprivileged.stderr().splitlines()
    assert (
        line == f"amqp-broker: error: {unprivileged.data}: cannot use the data directory: Permission denied"
    )


def test_what_the_disk_does_not_give_back_ends_the_broker_and_a_start_has_all_that_was_persistent(
    own_broker: BrokerProcess, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    switch = inject(monkeypatch, tmp_path)
    own_broker.start()
    channel = connect(own_broker).channel()
    channel.declare("q", durable=True)
    bodies = fill(channel, "q", **PERSISTENT)
    wait_until(lambda: spilled(own_broker) > 0, "something to read back")
    wait_written(own_broker)
    switch.write_text("pread (deleted)\n")
    channel.send("basic.consume", queue="q")
    assert own_broker.wait_ended() == 1
    last = own_broker.stderr().splitlines()[-1]
    assert last == f"amqp-broker: error: {own_broker.data}: cannot read spilled messages: Input/output error"
    switch.unlink()
    own_broker.start()
    assert connect(own_broker).channel().drain("q") == bodies


def test_the_broker_ends_as_well_if_a_client_that_goes_is_what_has_others_served(
    own_broker: BrokerProcess, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    switch = inject(monkeypatch, tmp_path)
    own_broker.start()
    publisher = connect(own_broker).channel()
    publisher.declare("q", durable=True, arguments={"x-single-active-consumer": True})
    active = connect(own_broker).channel()
    active.call("basic.qos", prefetch_count=1)
    active.consume("q", no_ack=False)
    connect(own_broker).channel().consume("q", no_ack=True)
    bodies = fill(publisher, "q", COUNT, 1, **PERSISTENT)
    wait_until(lambda: spilled(own_broker) > 0, "something to read back")
    wait_written(own_broker)
    switch.write_text("pread (deleted)\n")
    active.client.drop()
    assert own_broker.wait_ended() == 1
    switch.unlink()
    own_broker.start()
    found = connect(own_broker).channel().drain("q")
    assert found == bodies[len(bodies) - len(found) :]
    assert len(found) > COUNT // 2


def test_nothing_of_the_turn_that_could_not_be_finished_is_kept(
    own_broker: BrokerProcess, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    switch = inject(monkeypatch, tmp_path)
    own_broker.start()
    channel = connect(own_broker).channel()
    channel.declare("first", durable=True)
    channel.declare("full", durable=True, arguments={"x-max-length": COUNT})
    bodies = fill(channel, "full", **PERSISTENT)
    wait_until(lambda: spilled(own_broker) > 0, "something to read back")
    wait_written(own_broker)
    switch.write_text("pread (deleted)\n")
    channel.call("tx.select")
    channel.publish("half", routing_key="first", **PERSISTENT)
    for number in range(COUNT):
        channel.publish(f"other {number}", routing_key="full", **PERSISTENT)
    channel.send("tx.commit")
    assert own_broker.wait_ended() == 1
    switch.unlink()
    own_broker.start()
    channel = connect(own_broker).channel()
    assert channel.drain("first") == []
    assert channel.drain("full") == bodies
