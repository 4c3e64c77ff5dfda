"""Brings a store of an earlier schema version up to date, in one transaction.

Version 1 kept no counts: a start looked at the keys of all entries, and watermarks stood among them, with the queue id
alone as their key.
"""

from __future__ import annotations

import lmdb

from amqp_broker.store import records
from amqp_broker.store.changes import Databases


def migrate(environment: lmdb.Environment, version: int) -> None:
    """Have the environment, which nobody else uses, follow `records.SCHEMA_VERSION`. Raises lmdb.Error."""
    databases = Databases(environment)
    with environment.begin(write=True, buffers=True) as txn:
        if version < 2:
            _count_lanes(txn, databases)
        txn.put(records.SCHEMA_KEY, records.U64.pack(records.SCHEMA_VERSION), db=databases.meta)


def _count_lanes(txn: lmdb.Transaction[memoryview], databases: Databases) -> None:
    lanes: dict[bytes, list[int]] = {}
    marks: list[bytes] = []
    for key, value in txn.cursor(databases.entries).iternext():
        lane = lanes.setdefault(
            bytes(key[: records.LANE_KEY.size]).ljust(records.LANE_KEY.size, b"\0"), [0] * 4
        )
        if len(key) < records.ENTRY_KEY.size:
            lane[0] = records.U64.unpack(value)[0]
            marks.append(bytes(key))
        else:
            octets, references = records.body_size(value)
            lane[1] += 1
            lane[2] += octets
            lane[3] += references
    for mark in marks:
        txn.delete(mark, db=databases.entries)
    for lane_key, counts in lanes.items():
        txn.put(lane_key, records.LANE.pack(*counts), db=databases.lanes)
