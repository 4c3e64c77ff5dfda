"""The store cannot write: what is confirmed, who is blocked, who goes on, and how it ends."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.faults.faults import (
    BrokenDisk,
    Fault,
    FullDisk,
    MovedDirectory,
    Publisher,
    connect,
    drop_all,
    is_calm,
    log_has,
)
from tests.server.broker_process import BrokerProcess


@pytest.fixture(params=[FullDisk, BrokenDisk, MovedDirectory])
def fault(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Fault:
    fault: Fault = request.param(monkeypatch, tmp_path)
    return fault


@pytest.fixture
def publisher(fault: Fault, own_broker: BrokerProcess) -> Publisher:
    """One of a running broker that has confirmed its first message."""
    own_broker.start()
    connect(own_broker).channel().declare("q", durable=True)
    publisher = Publisher(own_broker, "q")
    publisher.publish()
    publisher.all_confirmed()
    return publisher


def leave_something_to_write(broker: BrokerProcess) -> None:
    """A change that no alarm keeps out: what is published may be, if the broker has seen what is wrong before."""
    channel = connect(broker).channel()
    channel.send("queue.declare", queue="unwritten", durable=True)
    channel.client.is_alive()


def test_publishers_are_blocked_unconfirmed_and_go_on_by_themselves(
    fault: Fault, own_broker: BrokerProcess, publisher: Publisher
) -> None:
    fault.begin(own_broker)
    leave_something_to_write(own_broker)
    publisher.publish_until_blocked(fault.reason)
    is_calm(own_broker)
    fault.end(own_broker)
    publisher.all_confirmed(first=2)
    publisher.unblocked()
    own_broker.kill()
    (line,) = [line for line in own_broker.stderr().splitlines() if "publishers are blocked" in line]
    assert f"[ERROR] {own_broker.data}" in line
    assert "octets wait, trying again every 1 s" in line
    assert own_broker.stderr().count("the store can write again") == 1
    own_broker.start()
    assert connect(own_broker).channel().drain("q") == publisher.bodies


def test_consumers_go_on_meanwhile(fault: Fault, own_broker: BrokerProcess, publisher: Publisher) -> None:
    fault.begin(own_broker)
    publisher.publish_until_blocked(fault.reason)
    consumer = connect(own_broker).channel()
    drained = consumer.drain("q")
    assert publisher.was_cut_off_after(drained)
    consumer.declare("transient")
    consumer.client.is_alive()
    fault.end(own_broker)
    publisher.all_confirmed(first=2)
    assert drained + consumer.drain("q") == publisher.bodies


@pytest.mark.parametrize("fault", [FullDisk], indirect=True)
def test_who_is_not_told_is_blocked_as_well(
    fault: Fault, own_broker: BrokerProcess, publisher: Publisher
) -> None:
    fault.begin(own_broker)
    publisher.publish_until_blocked(fault.reason)
    counting = connect(own_broker).channel()
    taken = counting.counts("q")
    deaf = Publisher(own_broker, "q", tells_blocked=False)
    for _ in range(2):
        deaf.publish()
    assert [counting.counts("q") for _ in range(3)] == [taken] * 3
    fault.end(own_broker)
    deaf.all_confirmed()
    counting.counts_become("q", len(publisher.bodies) + 2, 0)


def test_a_stop_meanwhile_says_that_something_is_lost(
    fault: Fault, own_broker: BrokerProcess, publisher: Publisher
) -> None:
    fault.begin(own_broker)
    leave_something_to_write(own_broker)
    publisher.publish_until_blocked(fault.reason)
    drop_all()
    assert own_broker.stop() == 1
    last = own_broker.stderr().splitlines()[-1]
    assert last.startswith(f"amqp-broker: error: {own_broker.data}"), own_broker.stderr()
    if not isinstance(fault, FullDisk):
        fault.end(own_broker)
    own_broker.start()
    assert connect(own_broker).channel().drain("q")[:1] == publisher.bodies[:1]


def test_nothing_is_confirmed_once_the_data_directory_is_deleted(own_broker: BrokerProcess) -> None:
    own_broker.start()
    connect(own_broker).channel().declare("q", durable=True)
    publisher = Publisher(own_broker, "q")
    publisher.publish()
    publisher.all_confirmed()
    shutil.rmtree(own_broker.data)
    leave_something_to_write(own_broker)
    publisher.publish_until_blocked("the data directory is missing")
    log_has(own_broker, "alarms: the data directory is missing")
    consumer = connect(own_broker).channel()
    assert publisher.was_cut_off_after(consumer.drain("q"))
    is_calm(own_broker)
    drop_all()
    assert own_broker.stop() == 1


def test_a_file_of_the_store_that_is_deleted_is_as_bad(own_broker: BrokerProcess) -> None:
    own_broker.start()
    connect(own_broker).channel().declare("q", durable=True)
    (own_broker.data / "store" / "data.mdb").unlink()
    publisher = Publisher(own_broker, "q")
    publisher.publish_until_blocked("the store cannot write")
    log_has(own_broker, "data.mdb is not there any more")
