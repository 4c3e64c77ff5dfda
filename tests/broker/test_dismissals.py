"""What the configuration makes at each start, and somebody removed, is not there after a start either."""

from __future__ import annotations

import pytest

from amqp_broker.broker.access import Permission, User
from amqp_broker.broker.broker import Broker
from amqp_broker.broker.flags import VirtualHostMetadata
from amqp_broker.broker.passwords import hash_password
from tests.broker.ledger_store import LedgerStore


def configured(store: LedgerStore, user: str = "guest") -> Broker:
    """A broker of whose store nothing is known yet, with what its configuration makes."""
    broker = Broker(store)
    broker.configured = {("vhost", "/"), ("user", user), ("permission", user, "/")}
    guest = User(user, hash_password(user), ["administrator"])
    broker.add_vhost("/")
    broker.add_user(guest)
    broker.permit(guest, "/", Permission(".*", ".*", ".*"))
    return broker


def restarted(store: LedgerStore, user: str = "guest") -> Broker:
    store.commit()
    after = configured(store.survivor(), user)
    after.recover()
    return after


@pytest.fixture
def store() -> LedgerStore:
    return LedgerStore()


@pytest.fixture
def broker(store: LedgerStore) -> Broker:
    return configured(store)


def dismissals(store: LedgerStore) -> int:
    return sum("of" in value for value in store.disk.definitions.values())


def test_what_nobody_removed_is_made_again(broker: Broker, store: LedgerStore) -> None:
    after = restarted(store)
    assert set(after.users["guest"].permissions) == set(after.vhosts) == {"/"}


def test_the_user_stays_away(broker: Broker, store: LedgerStore) -> None:
    assert broker.delete_user("guest")
    assert not restarted(store).users


def test_the_virtual_host_stays_away_and_so_does_the_permission_for_it(
    broker: Broker, store: LedgerStore
) -> None:
    assert broker.delete_vhost("/")
    after = restarted(store)
    assert not after.vhosts
    assert not after.users["guest"].permissions


def test_the_permission_stays_away(broker: Broker, store: LedgerStore) -> None:
    assert broker.clear_permission(broker.users["guest"], broker.vhosts["/"])
    after = restarted(store)
    assert "/" in after.vhosts
    assert not after.users["guest"].permissions


def test_who_comes_back_has_what_was_given_since(broker: Broker, store: LedgerStore) -> None:
    broker.delete_user("guest")
    guest = broker.put_user("guest", hash_password("new"), [], {})
    after = restarted(store).users["guest"]
    assert (after.tags, after.permissions) == ([], {})
    broker.set_permission(guest, broker.vhosts["/"], Permission("^own", "", ""))
    assert restarted(store).users["guest"].permissions["/"].configure == "^own"


def test_a_virtual_host_that_comes_back_is_closed_to_the_user(broker: Broker, store: LedgerStore) -> None:
    broker.delete_vhost("/")
    broker.put_vhost("/", VirtualHostMetadata("again"))
    after = restarted(store)
    assert after.vhosts["/"].metadata.description == "again"
    assert not after.users["guest"].permissions


def test_one_that_was_changed_before_it_was_removed_stays_away_too(
    broker: Broker, store: LedgerStore
) -> None:
    broker.put_user("guest", hash_password("new"), [], {})
    broker.put_vhost("/", VirtualHostMetadata("changed"))
    broker.set_permission(broker.users["guest"], broker.vhosts["/"], Permission("a", "a", "a"))
    store.commit()
    broker.delete_user("guest")
    broker.delete_vhost("/")
    after = restarted(store)
    assert not after.users
    assert not after.vhosts


def test_it_is_noted_once_however_often_it_comes_and_goes(broker: Broker, store: LedgerStore) -> None:
    for _ in range(3):
        broker.delete_user("guest")
        broker.put_user("guest", hash_password("guest"), [], {})
        store.commit()
    # The user, and the permission that went along.
    assert dismissals(store) == 2
    broker.delete_user("guest")
    assert not restarted(store).users
    assert dismissals(store) == 2


def test_who_is_not_the_configurations_leaves_nothing(broker: Broker, store: LedgerStore) -> None:
    broker.put_user("alice", hash_password("alice"), [], {})
    broker.delete_user("alice")
    store.commit()
    assert dismissals(store) == 0


def test_another_user_of_the_configuration_is_made(broker: Broker, store: LedgerStore) -> None:
    broker.delete_user("guest")
    assert set(restarted(store, "admin").users) == {"admin"}
    broker.delete_vhost("/")
    assert not restarted(store, "admin").users["admin"].permissions
