"""A store with something of everything in it, and a knife: what the tests of damage share."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import lmdb
import pika

from amqp_broker.broker.ports import Definition
from amqp_broker.store import records
from amqp_broker.store.definitions import decode_definition, definition_key, encode_definition
from amqp_broker.store.environment import PROCESS, open_environment
from amqp_broker.store.writer import Databases
from tests.server.blocking import PERSISTENT
from tests.server.target import RunningBroker

MAP_SIZE = 1 << 30


def publish_everywhere(port: int) -> None:
    """Leave something of every kind that the store can hold."""
    with RunningBroker(port).connect() as connection:
        channel = connection.channel()
        channel.confirm_delivery()
        channel.exchange_declare("fan", "fanout", durable=True)
        channel.exchange_declare("also", "topic", durable=True)
        channel.exchange_bind("fan", "also", "#")
        channel.exchange_declare(
            "later", "x-delayed-message", durable=True, arguments={"x-delayed-type": "direct"}
        )
        channel.queue_declare("plain", durable=True)
        channel.queue_declare("other", durable=True)
        channel.queue_declare("ranked", durable=True, arguments={"x-max-priority": 3})
        once = {"x-message-deduplication": True, "x-cache-size": 10}
        channel.queue_declare("once", durable=True, arguments=once)
        for name in ("plain", "other"):
            channel.queue_bind(name, "fan")
        channel.queue_bind("plain", "amq.topic", "a.#")
        for number in range(4):
            channel.basic_publish("fan", "", b"shared", PERSISTENT)
            channel.basic_publish("", "plain", b"inline", PERSISTENT)
            ranked = pika.BasicProperties(delivery_mode=2, priority=number, expiration="10000000")
            channel.basic_publish("", "ranked", b"", ranked)
            for exchange, key in (("", "once"), ("later", "plain")):
                headers = {"x-deduplication-header": number, "x-delay": 10_000_000}
                properties = pika.BasicProperties(delivery_mode=2, headers=headers)
                channel.basic_publish(exchange, key, b"told apart", properties)
        for name in ("plain", "ranked"):
            method, _, _ = channel.basic_get(name)
            channel.basic_nack(method.delivery_tag)


class Surgery:
    """One transaction that puts into a store what no broker would."""

    def __init__(self, txn: lmdb.Transaction, databases: Databases) -> None:
        self.txn = txn
        self.databases = databases

    def queue_id(self, name: str, kind: str = "queue", field: str = "store_id") -> int:
        return int(str(self.definition(kind, name).value[field]))

    def definition(self, kind: str, name: str) -> Definition:
        for _, value in self.txn.cursor(self.databases.definitions):
            found = decode_definition(bytes(value))
            if found.kind == kind and name in (found.value.get("name"), found.value.get("destination")):
                return found
        raise AssertionError(f"no {kind} {name}")

    def define(self, definition: Definition, **changes: Any) -> None:
        """Put a definition, with changes; None takes a field out."""
        for name, value in changes.items():
            definition.value[name] = value
            if value is None:
                del definition.value[name]
        key = definition_key(definition.kind, definition.key)
        self.txn.put(key, encode_definition(definition), db=self.databases.definitions)

    def define_another(self, kind: str, name: str, /, **changes: Any) -> None:
        """The same under another key."""
        found = self.definition(kind, name)
        self.define(Definition(kind, b"\0\0\0\0\0\0\1\0", found.value), **changes)

    def undefine(self, kind: str, name: str) -> None:
        key = definition_key(kind, self.definition(kind, name).key)
        assert self.txn.delete(key, db=self.databases.definitions)

    def entry(self, queue: str, *, reference: bool) -> tuple[bytes, bytes]:
        """Key and value of a queue's first entry that is one, or that holds its message itself."""
        prefix = records.QUEUE_ID.pack(self.queue_id(queue))
        for key, value in self.txn.cursor(self.databases.entries):
            if key.startswith(prefix) and len(key) == 12 and bool(value[0] & 1) is reference:
                return bytes(key), bytes(value)
        raise AssertionError(f"no such entry in {queue}")

    def put_entry(self, key: bytes, value: bytes) -> None:
        self.txn.put(key, value, db=self.databases.entries)

    def put_lane(self, key: bytes, value: bytes) -> None:
        self.txn.put(key, value, db=self.databases.lanes)

    def put_meta(self, key: bytes, value: bytes) -> None:
        self.txn.put(key, value, db=self.databases.meta)

    def first_message(self) -> tuple[bytes, bytes]:
        cursor = self.txn.cursor(self.databases.messages)
        assert cursor.first()
        return bytes(cursor.key()), bytes(cursor.value())


@contextlib.contextmanager
def surgery(data: Path) -> Iterator[Surgery]:
    environment = open_environment(str(data), MAP_SIZE, PROCESS)
    databases = Databases(environment)
    with environment.begin(write=True) as txn:
        yield Surgery(txn, databases)
    environment.close()
