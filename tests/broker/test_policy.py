"""Policies: what may be in one, which of several counts, and what follows one when it changes."""

from __future__ import annotations

import pytest

from amqp_broker.broker.broker import Broker
from amqp_broker.broker.flags import ExchangeFlags, QueueFlags
from amqp_broker.broker.policy import InvalidPolicy, Policy, new_policy
from amqp_broker.broker.queue import Queue
from amqp_broker.broker.vhost import VirtualHost
from amqp_broker.content.table import Field, field_of, table_of
from tests.broker.ledger_store import LedgerStore
from tests.broker.taker import bodies_in, publish


def policy(name: str, pattern: str, priority: int = 0, apply_to: str = "all", **definition: object) -> Policy:
    """A valid policy; the keys of the definition with underscores for hyphens."""
    return new_policy(name, pattern, keys(definition), priority, apply_to)


def operator_policy(name: str, pattern: str, **definition: object) -> Policy:
    return new_policy(name, pattern, keys(definition), operator=True)


def keys(definition: dict[str, object]) -> dict[str, Field]:
    return table_of({key.replace("_", "-"): value for key, value in definition.items()})


@pytest.fixture
def store() -> LedgerStore:
    return LedgerStore()


@pytest.fixture
def vhost(store: LedgerStore) -> VirtualHost:
    return Broker(store).add_vhost("/")


def queue(vhost: VirtualHost, name: str, **arguments: object) -> Queue:
    table = table_of({"x-" + key.replace("_", "-"): value for key, value in arguments.items()})
    return vhost.declare_queue(name, QueueFlags(True, False, False), table, None)


# -- what may be in one: the texts are those of RabbitMQ 3.10.8

BAD_VALUES: list[tuple[str, object, str]] = [
    ("alternate-exchange", 1, "1 is not a valid alternate exchange name"),
    ("dead-letter-exchange", None, "null is not a valid dead letter exchange name"),
    ("dead-letter-routing-key", 1.5, "1.5 is not a valid dead letter routing key"),
    ("dead-letter-routing-key", "k" * 256, f'<<"{"k" * 256}">> is not a valid dead letter routing key'),
    ("dead-letter-strategy", "x", '<<"x">> is not a valid dead letter strategy'),
    ("message-ttl", -1, "-1 is not a valid message TTL"),
    ("message-ttl", "x", '<<"x">> is not a valid message TTL'),
    ("expires", 0, "0 is not a valid queue expiry"),
    ("max-length", {"b": 1.5, "a": None}, '#{<<"a">> => null,<<"b">> => 1.5} is not a valid maximum length'),
    ("max-length", [1, "a"], '[1,<<"a">>] is not a valid maximum length'),
    ("max-length", True, "true is not a valid maximum length"),
    ("max-length-bytes", 1.5, "1.5 is not a valid maximum length in bytes"),
    ("max-in-memory-length", "x", '<<"x">> is not a valid maximum memory in bytes'),
    ("max-in-memory-bytes", -1, "-1 is not a valid maximum memory in bytes"),
    ("queue-mode", "x", '<<"x">> is not a valid queue-mode value'),
    ("queue-version", 3, "3 is not a valid queue-version value"),
    ("overflow", "x", '<<"x">> is not a valid overflow value'),
    ("delivery-limit", "x", '<<"x">> is not a valid delivery limit'),
    ("stream-max-segment-size-bytes", "x", '<<"x">> is not a valid segment size'),
    ("queue-leader-locator", 1, "1 is not a valid queue leader locator value"),
    ("initial-cluster-size", "x", '<<"x">> is not a valid cluster size'),
    ("queue-master-locator", 1, "1 invalid queue-master-locator value"),
    ("ha-mode", "x", '<<"x">> is not a valid ha-mode value'),
    ("max-priority", 1, '[{<<"max-priority">>,1}] are not recognised policy settings'),
    ("queue-type", "x", '[{<<"queue-type">>,<<"x">>}] are not recognised policy settings'),
]


@pytest.mark.parametrize(("key", "value", "problem"), BAD_VALUES)
def test_a_bad_value_is_refused_in_rabbitmqs_words(key: str, value: object, problem: str) -> None:
    with pytest.raises(InvalidPolicy) as caught:
        new_policy("p", "", {key: field_of(value)})
    assert caught.value.problems == [problem]


def test_a_policy_says_something() -> None:
    with pytest.raises(InvalidPolicy, match="^no policy provided$"):
        new_policy("p", "", {})


def test_of_bad_values_the_first_by_key_is_told() -> None:
    with pytest.raises(InvalidPolicy, match="^-1 is not a valid queue expiry$"):
        policy("p", "", max_length=-1, expires=-1, zz=1)


def test_unknown_keys_are_told_together_when_the_others_are_good() -> None:
    with pytest.raises(InvalidPolicy) as caught:
        policy("p", "", foo=1, bar="x", max_length=1)
    assert caught.value.problems == ['[{<<"bar">>,<<"x">>},{<<"foo">>,1}] are not recognised policy settings']


def test_a_pattern_is_a_regular_expression_and_apply_to_one_of_a_few_words() -> None:
    with pytest.raises(InvalidPolicy) as caught:
        policy("p", "^(", apply_to="sheep", max_length=1)
    pattern, apply_to = caught.value.problems
    assert pattern.startswith('pattern should be regular expression but is invalid: {"missing )')
    assert apply_to.startswith("apply-to 'sheep' unrecognised; should be one of: 'queues', ")


OPERATORS_KEYS = [
    "message-ttl",
    "expires",
    "max-length",
    "max-length-bytes",
    "max-in-memory-length",
    "max-in-memory-bytes",
    "delivery-limit",
    "consumer-timeout",
    "target-group-size",
]


@pytest.mark.parametrize("key", OPERATORS_KEYS)
def test_an_operator_limits(key: str) -> None:
    assert new_policy("p", "", {key: Field("I", 1)}, operator=True).definition


@pytest.mark.parametrize(
    ("key", "value"), [("dead-letter-exchange", "x"), ("alternate-exchange", "x"), ("queue-mode", "lazy")]
)
def test_what_is_no_limit_is_not_for_operators(key: str, value: str) -> None:
    with pytest.raises(InvalidPolicy) as caught:
        new_policy("p", "", {key: field_of(value)}, operator=True)
    assert caught.value.problems == [f'[{{<<"{key}">>,<<"{value}">>}}] are not recognised policy settings']


# -- which one counts


def of(vhost: VirtualHost, queue: Queue) -> tuple[str | None, str | None]:
    effective = vhost.policies.of_queue(queue)
    return (
        None if effective.policy is None else effective.policy.name,
        None if effective.operator_policy is None else effective.operator_policy.name,
    )


def test_the_highest_priority_counts_and_among_equals_the_first_name(vhost: VirtualHost) -> None:
    q = queue(vhost, "q")
    for name, priority in (("c", 1), ("b", 1), ("a", 0), ("z", -1)):
        vhost.set_policy(policy(name, "^q", priority, max_length=1))
    assert of(vhost, q) == ("b", None)
    assert vhost.delete_policy("b")
    assert of(vhost, q) == ("c", None)
    assert vhost.delete_policy("c")
    assert of(vhost, q) == ("a", None)
    assert not vhost.delete_policy("c")


def test_a_pattern_is_searched_for(vhost: VirtualHost) -> None:
    vhost.set_policy(policy("p", "b", max_length=1))
    assert of(vhost, queue(vhost, "abc")) == ("p", None)
    assert of(vhost, queue(vhost, "ac")) == (None, None)


@pytest.mark.parametrize(
    ("pattern", "matches", "others"),
    [
        ("", ["", "q"], []),
        ("^$", [""], ["q"]),
        ("^..$", ["é", "ab"], ["a", "éé"]),
        (r"^[[:alpha:]]+\z", ["a"], ["a\n", "1"]),
        (r"^\Qa.b\E$", ["a.b"], ["axb"]),
    ],
)
def test_a_pattern_means_what_it_means_to_rabbitmq(
    vhost: VirtualHost, pattern: str, matches: list[str], others: list[str]
) -> None:
    set_policy = policy("p", pattern, max_length=1)
    assert [name for name in matches if not set_policy.is_for_queue(name, "classic")] == []
    assert [name for name in others if set_policy.is_for_queue(name, "classic")] == []
    assert [name for name in matches if not set_policy.is_for_exchange(name)] == []
    with pytest.raises(InvalidPolicy, match="pattern should be regular expression but is invalid"):
        policy("p", r"\p{L}", max_length=1)


@pytest.mark.parametrize(
    ("apply_to", "classic", "quorum", "exchange"),
    [
        ("all", True, True, True),
        ("queues", True, True, False),
        ("exchanges", False, False, True),
        ("classic_queues", True, False, False),
        ("quorum_queues", False, True, False),
        ("streams", False, False, False),
    ],
)
def test_apply_to_says_what_a_policy_is_for(
    vhost: VirtualHost, apply_to: str, classic: bool, quorum: bool, exchange: bool
) -> None:
    vhost.set_policy(policy("p", "", apply_to=apply_to, max_length=1))
    assert (vhost.policies.of_queue(queue(vhost, "c")).policy is not None) is classic
    q = queue(vhost, "q", queue_type="quorum")
    assert (vhost.policies.of_queue(q).policy is not None) is quorum
    effective = vhost.policies.of_exchange(vhost.exchanges["amq.direct"])
    assert (effective.policy is not None) is exchange


@pytest.mark.parametrize(
    ("key", "value", "classic", "quorum"),
    [
        ("queue-mode", "lazy", True, False),
        ("ha-mode", "all", True, False),
        ("queue-master-locator", "client-local", True, False),
        ("queue-leader-locator", "client-local", False, True),
        ("dead-letter-strategy", "at-least-once", False, True),
        ("max-age", "1h", False, False),
        ("alternate-exchange", "x", True, True),
        ("delivery-limit", 3, True, True),
    ],
)
def test_a_policy_with_a_key_that_a_type_lacks_is_not_for_that_type(
    vhost: VirtualHost, key: str, value: object, classic: bool, quorum: bool
) -> None:
    vhost.set_policy(new_policy("p", "", {key: field_of(value), "max-length": Field("I", 5)}))
    assert queue(vhost, "c").features.max_length == (5 if classic else -1)
    assert queue(vhost, "q", queue_type="quorum").features.max_length == (5 if quorum else -1)


def test_a_policy_and_an_operator_policy_count_together(vhost: VirtualHost) -> None:
    q = queue(vhost, "q")
    vhost.set_policy(policy("p", "", max_length=2, overflow="drop-head", message_ttl=9))
    vhost.set_operator_policy(
        operator_policy("o", "", max_length=1, message_ttl=10, expires=7, overflow="reject-publish")
    )
    assert of(vhost, q) == ("p", "o")
    merged = vhost.policies.of_queue(q).definition
    assert merged == keys({"max_length": 1, "message_ttl": 9, "expires": 7, "overflow": "reject-publish"})
    assert vhost.delete_operator_policy("o")
    assert vhost.policies.of_queue(q).definition["max-length"] == Field("I", 2)


# -- what follows


def test_a_running_queue_follows_at_once(vhost: VirtualHost) -> None:
    q = queue(vhost, "q")
    publish(q, b"1", b"2", b"3")
    vhost.set_policy(policy("p", "^q$", max_length=2))
    assert q.ready_count() == 2
    vhost.set_policy(policy("p", "^q$", max_length=1))
    assert q.ready_count() == 1
    vhost.delete_policy("p")
    publish(q, b"4", b"5")
    assert bodies_in(q) == [b"3", b"4", b"5"]


def test_a_queue_that_a_change_does_not_concern_is_left_alone(vhost: VirtualHost) -> None:
    other = queue(vhost, "other")
    features = other.features
    vhost.set_policy(policy("p", "^q$", max_length=2))
    assert other.features is features


def test_a_new_queue_follows_from_the_start(vhost: VirtualHost) -> None:
    vhost.set_policy(policy("p", "^q", dead_letter_exchange="dlx"))
    assert queue(vhost, "q").features.dead_letter_exchange == "dlx"


def test_a_policy_gives_an_exchange_its_alternate(vhost: VirtualHost) -> None:
    q = queue(vhost, "unrouted")
    flags = ExchangeFlags(True, False, False)
    for name, arguments in (("plain", {}), ("own", {"alternate-exchange": "amq.topic"})):
        vhost.declare_exchange(name, "direct", flags, table_of(dict(arguments)))
    vhost.bind(vhost.exchanges["amq.fanout"], q, "", {})
    before = vhost.generation
    vhost.set_policy(policy("p", "", apply_to="exchanges", alternate_exchange="amq.fanout"))
    assert vhost.generation > before
    assert vhost.exchanges["plain"].alternate == "amq.fanout"
    assert vhost.exchanges["own"].alternate == "amq.topic"
    assert vhost.declare_exchange("new", "direct", flags, {}).alternate == "amq.fanout"
    vhost.delete_policy("p")
    assert vhost.exchanges["plain"].alternate is None
    assert vhost.exchanges["own"].alternate == "amq.topic"


# -- after a restart


def restarted(store: LedgerStore) -> VirtualHost:
    store.commit()
    broker = Broker(store.survivor())
    broker.recover()
    return broker.add_vhost("/")


def test_policies_survive_a_restart_and_count_for_what_is_restored(
    store: LedgerStore, vhost: VirtualHost
) -> None:
    queue(vhost, "q")
    vhost.declare_exchange("x", "direct", ExchangeFlags(True, False, False), {})
    vhost.set_policy(policy("p", "^q", 5, "queues", message_ttl=7, dead_letter_exchange="é"))
    vhost.set_policy(policy("ae", "^x", alternate_exchange="amq.fanout"))
    vhost.set_operator_policy(operator_policy("o", "", max_length=3))
    after = restarted(store)
    features = after.queues["q"].features
    assert (features.message_ttl, features.dead_letter_exchange, features.max_length) == (7, "é", 3)
    assert after.exchanges["x"].alternate == "amq.fanout"
    found = after.policies.ordinary.by_name["p"]
    assert (found.pattern, found.priority, found.apply_to) == ("^q", 5, "queues")


def test_a_replaced_or_deleted_policy_is_not_there_after_a_restart(
    store: LedgerStore, vhost: VirtualHost
) -> None:
    vhost.set_policy(policy("p", "^q", max_length=1))
    vhost.set_policy(policy("p", "^q", max_length=2))
    vhost.set_policy(policy("gone", "^q", max_length=2))
    vhost.set_operator_policy(operator_policy("gone", "", max_length=3))
    vhost.delete_policy("gone")
    vhost.delete_operator_policy("gone")
    after = restarted(store)
    assert list(after.policies.ordinary.by_name) == ["p"]
    assert after.policies.ordinary.by_name["p"].definition == keys({"max_length": 2})
    assert after.policies.operator.by_name == {}


def test_a_policy_changed_after_a_restart_replaces_the_one_before(
    store: LedgerStore, vhost: VirtualHost
) -> None:
    vhost.set_policy(policy("p", "^q", max_length=1))
    store.commit()
    store = store.survivor()
    broker = Broker(store)
    broker.recover()
    broker.add_vhost("/").set_policy(policy("p", "^q", max_length=2))
    after = restarted(store)
    assert after.policies.ordinary.by_name["p"].definition == keys({"max_length": 2})
    after.delete_policy("p")
