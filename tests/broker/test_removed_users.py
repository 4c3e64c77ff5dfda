"""Users, permissions and virtual hosts that are removed are gone for good, with all that belongs to them."""

from __future__ import annotations

import pytest

from amqp_broker.broker.access import Permission, TopicPermission, User
from amqp_broker.broker.broker import Broker
from amqp_broker.broker.exchange import Exchange
from amqp_broker.broker.flags import ExchangeFlags, QueueFlags, VirtualHostMetadata
from amqp_broker.broker.passwords import hash_password
from amqp_broker.broker.policy import Policy
from amqp_broker.broker.vhost import VirtualHost
from amqp_broker.content.table import Field, table_of
from tests.broker.ledger_store import LedgerStore

DURABLE = QueueFlags(True, False, False)


@pytest.fixture
def store() -> LedgerStore:
    return LedgerStore()


@pytest.fixture
def broker(store: LedgerStore) -> Broker:
    """alice has permissions in the virtual hosts "kept" and "shop", bob in "shop"."""
    broker = Broker(store)
    for name in ("kept", "shop"):
        broker.put_vhost(name, VirtualHostMetadata())
    for name in ("alice", "bob"):
        broker.put_user(name, hash_password(name), [], {})
    for name, vhost in (("alice", "kept"), ("alice", "shop"), ("bob", "shop")):
        permission = Permission(".*", ".*", ".*")
        broker.set_permission(broker.users[name], broker.vhosts[vhost], permission)
        topic = TopicPermission("^a", "^b")
        broker.set_topic_permission(broker.users[name], broker.vhosts[vhost], "amq.topic", topic)
    return broker


def restarted(store: LedgerStore) -> Broker:
    store.commit()
    after = Broker(store.survivor())
    after.recover()
    return after


def fill(vhost: VirtualHost) -> None:
    """One of everything that a virtual host can hold."""
    flags = ExchangeFlags(True, False, False)
    source = vhost.declare_exchange("x", "topic", flags, {})
    automatic = vhost.declare_exchange("automatic", "fanout", ExchangeFlags(True, True, False), {})
    vhost.declare_exchange("late", "x-delayed-message", flags, table_of({"x-delayed-type": "direct"}))
    queue = vhost.declare_queue("q", DURABLE, {}, None)
    vhost.declare_queue("quorum", DURABLE, table_of({"x-queue-type": "quorum"}), None)
    vhost.declare_queue("mine", QueueFlags(False, True, False), {}, object())
    vhost.bind(source, queue, "#", {})
    vhost.bind(source, automatic, "#", {})
    vhost.bind(automatic, queue, "", {})
    vhost.set_policy(Policy("p", "^q", {"max-length": Field("l", 10)}))
    vhost.set_operator_policy(Policy("o", "^q", {"max-length": Field("l", 5)}))
    vhost.parameters.set("vhost-limits", "limits", {"max-queues": 7})


def test_a_user_who_was_deleted_stays_so_after_a_restart(broker: Broker, store: LedgerStore) -> None:
    assert broker.delete_user("alice")
    assert set(broker.users) == {"bob"}
    after = restarted(store)
    assert set(after.users) == {"bob"}
    assert set(after.users["bob"].permissions) == {"shop"}
    assert not any("alice" in str(value) for value in store.disk.definitions.values())


def test_a_user_who_comes_back_begins_with_nothing(broker: Broker, store: LedgerStore) -> None:
    broker.delete_user("alice")
    broker.put_user("alice", hash_password("new"), [], {})
    for alice in (broker.users["alice"], restarted(store).users["alice"]):
        assert not alice.permissions
        assert not alice.topic_permissions


def test_a_permission_that_was_cleared_stays_so(broker: Broker, store: LedgerStore) -> None:
    alice = broker.users["alice"]
    assert broker.clear_permission(alice, broker.vhosts["shop"])
    assert not broker.clear_permission(alice, broker.vhosts["shop"])
    assert set(restarted(store).users["alice"].permissions) == {"kept"}


def test_a_topic_permission_that_was_cleared_stays_so(broker: Broker, store: LedgerStore) -> None:
    alice = broker.users["alice"]
    assert broker.clear_topic_permission(alice, broker.vhosts["shop"], "amq.topic")
    assert not broker.clear_topic_permission(alice, broker.vhosts["shop"], "amq.topic")
    assert set(restarted(store).users["alice"].topic_permissions) == {("kept", "amq.topic")}


def test_who_is_not_there_cannot_be_deleted(broker: Broker) -> None:
    assert not broker.delete_user("carol")
    assert not broker.delete_vhost("nowhere")


def test_one_whom_the_store_never_knew_can_be_deleted(broker: Broker, store: LedgerStore) -> None:
    carol = User("carol", hash_password("carol"), [])
    broker.add_user(carol)
    broker.permit(carol, "shop", Permission("", "", ""))
    assert broker.delete_user("carol")
    assert set(restarted(store).users) == {"alice", "bob"}


def test_nothing_of_a_deleted_virtual_host_is_kept(broker: Broker, store: LedgerStore) -> None:
    fill(broker.vhosts["shop"])
    store.commit()
    assert broker.delete_vhost("shop")
    after = restarted(store)
    assert set(broker.vhosts) == set(after.vhosts) == {"kept"}
    for users in (broker.users, after.users):
        assert set(users["alice"].permissions) == {"kept"}
        assert not users["bob"].permissions
        assert not users["bob"].topic_permissions
    assert {value.get("vhost", "kept") for value in store.disk.definitions.values()} == {"kept"}
    assert not store.disk.entries


def test_the_others_keep_what_they_have(broker: Broker, store: LedgerStore) -> None:
    fill(broker.vhosts["kept"])
    fill(broker.vhosts["shop"])
    broker.delete_vhost("shop")
    kept = restarted(store).vhosts["kept"]
    assert set(kept.queues) == {"q", "quorum"}
    assert {"x", "automatic", "late"} <= set(kept.exchanges)
    exchange: Exchange = kept.exchanges["x"]
    assert len(exchange.bindings) == 2
    assert kept.queues["q"].features.max_length == 5


def test_a_virtual_host_of_the_same_name_begins_empty(broker: Broker, store: LedgerStore) -> None:
    fill(broker.vhosts["shop"])
    broker.delete_vhost("shop")
    shop = broker.put_vhost("shop", VirtualHostMetadata())
    assert not shop.queues
    assert not restarted(store).vhosts["shop"].parameters.by_name
    assert not restarted(store).users["bob"].permissions
