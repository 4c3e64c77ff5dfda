"""A store of an earlier schema version is brought up to date when it is opened, and loses nothing by it."""

from __future__ import annotations

from pathlib import Path

import pytest

from amqp_broker.broker.ports import StoredQueue
from amqp_broker.store import records
from amqp_broker.store.environment import PROCESS, open_environment
from amqp_broker.store.errors import StoreError
from amqp_broker.store.verify import Inspection
from amqp_broker.store.writer import Databases

from .harness import Subject, message

pytestmark = pytest.mark.anyio


@pytest.fixture
async def filled(durable: Subject) -> Subject:
    """A store with inline and shared messages, an empty queue, and watermarks."""
    durable.store.recover()
    durable.put(1, 3, 4, 5)
    durable.put(2, 1)
    shared = message(b"shared by two")
    for queue_id in (1, 2):
        durable.store.put(queue_id, durable.entry(9, shared))
    durable.store.mark_delivered(1, 4)
    durable.store.mark_delivered(3, 17)
    await durable.commit()
    await durable.close()
    return durable


def make_old(path: Path) -> None:
    """What version 1 left: no counts, and a queue's watermark ahead of its entries."""
    environment = open_environment(str(path), durability=PROCESS)
    databases = Databases(environment)
    with environment.begin(write=True) as txn:
        for key, value in txn.cursor(databases.lanes):
            queue_id, _ = records.LANE_KEY.unpack(key)
            watermark = records.LANE.unpack(value)[0]
            if watermark:
                txn.put(records.QUEUE_ID.pack(queue_id), records.U64.pack(watermark), db=databases.entries)
        txn.drop(databases.lanes)
        txn.put(records.SCHEMA_KEY, records.U64.pack(1), db=databases.meta)
    environment.close()


def told(queues: dict[int, StoredQueue]) -> list[tuple[int, ...]]:
    return [
        (queue_id, lane.level, lane.first_seq, lane.last_seq, lane.count, lane.body_bytes, lane.watermark)
        for queue_id, queue in queues.items()
        for lane in queue.lanes
    ]


async def test_version_1_is_counted(filled: Subject) -> None:
    await filled.open()
    expected = told(filled.store.recover()[1])
    assert expected == [(1, 0, 3, 9, 4, 31, 4), (2, 0, 1, 9, 2, 19, 0), (3, 0, 0, 17, 0, 0, 17)]
    await filled.close()
    make_old(filled.path)
    await filled.open()
    assert told(filled.store.recover()[1]) == expected
    assert filled.seqs(1) == [3, 4, 5, 9]
    # It is up to date now, and stays so.
    await filled.reopen()
    assert told(filled.store.recover()[1]) == expected


async def test_version_1_is_not_verified(filled: Subject) -> None:
    make_old(filled.path)
    with pytest.raises(StoreError, match="its schema version is 1: it can be verified when a broker"):
        Inspection(str(filled.path)).__enter__()
