"""What arguments, policies and operator policies come to, queue by queue."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from amqp_broker.broker.effective import Effective, features_of
from amqp_broker.broker.features import (
    DROP_HEAD,
    NO_LIMIT,
    REJECT_PUBLISH,
    REJECT_PUBLISH_DLX,
    RETRY_ALL,
    RETRY_DISABLED,
    RETRY_FAILED,
    QueueFeatures,
)
from amqp_broker.broker.policy import Policy, new_policy
from amqp_broker.content.table import table_of

NONE = Effective(None, None)
LIMITS = {
    "x-message-ttl": "message_ttl",
    "x-max-length": "max_length",
    "x-max-length-bytes": "max_length_bytes",
    "x-delivery-limit": "delivery_limit",
    "x-consumer-timeout": "lease",
    "x-expires": "expires",
}


def features(
    arguments: dict[str, object],
    policy: dict[str, object] | None = None,
    operator: dict[str, object] | None = None,
) -> QueueFeatures:
    return features_of(table_of(arguments), Effective(_policy(policy), _policy(operator, operator=True)))


def _policy(definition: dict[str, object] | None, *, operator: bool = False) -> Policy | None:
    return None if definition is None else new_policy("p", "", table_of(definition), operator=operator)


def values(features: QueueFeatures) -> dict[str, object]:
    """What a queue works by; found by looking, as a compiled class does not say what it has."""
    found = {name: getattr(features, name) for name in dir(features) if not name.startswith("_")}
    return {name: value for name, value in found.items() if not callable(value)}


def terms_of(features: QueueFeatures) -> tuple[str, int, int]:
    """By which header, how many and for how long."""
    terms = features.deduplication
    assert terms is not None
    return terms.header, terms.size, terms.ttl


def test_without_arguments_and_policies_nothing_is_on() -> None:
    assert values(features({})) == values(QueueFeatures())


def test_every_argument_has_its_feature() -> None:
    arguments: dict[str, object] = {
        "x-message-ttl": 1,
        "x-expires": 2,
        "x-max-length": 3,
        "x-max-length-bytes": 4,
        "x-overflow": "reject-publish-dlx",
        "x-dead-letter-exchange": "dlx",
        "x-dead-letter-routing-key": "k",
        "x-max-priority": 5,
        "x-delivery-limit": 6,
        "x-consumer-timeout": 7,
        "x-delayed-retry-type": "failed",
        "x-delayed-retry-min": 8,
        "x-delayed-retry-max": 9,
        "x-delayed-retry-multiplier": 10,
        "x-delayed-retry-jitter": 11,
        "x-message-deduplication": True,
        "x-deduplication-header": "id",
        "x-cache-size": 12,
        "x-cache-ttl": 13,
    }
    found = features(arguments)
    assert terms_of(found) == ("id", 12, 13)
    assert values(found) == {
        "message_ttl": 1,
        "expires": 2,
        "max_length": 3,
        "max_length_bytes": 4,
        "overflow": REJECT_PUBLISH_DLX,
        "dead_letter_exchange": "dlx",
        "dead_letter_routing_key": "k",
        "max_priority": 5,
        "delivery_limit": 6,
        "lease": 7,
        "retry_type": RETRY_FAILED,
        "retry_min": 8,
        "retry_max": 9,
        "retry_multiplier": 10,
        "retry_jitter": 11,
        "deduplication": found.deduplication,
    }


@pytest.mark.parametrize(("argument", "attribute"), LIMITS.items())
@given(st.lists(st.none() | st.integers(1, 9), min_size=3, max_size=3))
def test_of_limits_the_lowest_counts(argument: str, attribute: str, given: list[int | None]) -> None:
    def saying(name: str, value: int | None) -> dict[str, object]:
        return {} if value is None else {name: value}

    key = argument.removeprefix("x-")
    ours, policy, operator = given
    found = features(saying(argument, ours), saying(key, policy) or None, saying(key, operator) or None)
    said = [value for value in given if value is not None]
    assert getattr(found, attribute) == min(said, default=getattr(QueueFeatures(), attribute))


def test_no_delivery_limit_is_higher_than_any() -> None:
    assert features({"x-delivery-limit": -1}, {"delivery-limit": 5}).delivery_limit == 5
    assert features({"x-delivery-limit": 5}, {"delivery-limit": -1}).delivery_limit == 5
    assert features({"x-delivery-limit": -1}, {"delivery-limit": -1}).delivery_limit == NO_LIMIT


def test_of_names_the_arguments_counts_and_each_by_itself() -> None:
    policy: dict[str, object] = {"dead-letter-exchange": "theirs", "dead-letter-routing-key": "k"}
    found = features({"x-dead-letter-exchange": "ours"}, policy)
    assert (found.dead_letter_exchange, found.dead_letter_routing_key) == ("ours", "k")
    assert features({}, policy).dead_letter_exchange == "theirs"


def test_the_default_exchange_can_take_dead_letters() -> None:
    assert features({"x-dead-letter-exchange": ""}).dead_letter_exchange == ""


def test_of_overflows_the_arguments_counts_then_the_operators() -> None:
    policy: dict[str, object] = {"overflow": "reject-publish"}
    operator: dict[str, object] = {"overflow": "reject-publish-dlx"}
    assert features({}, policy).overflow == REJECT_PUBLISH
    assert features({}, policy, operator).overflow == REJECT_PUBLISH_DLX
    assert features({"x-overflow": "drop-head"}, policy, operator).overflow == DROP_HEAD


def test_a_policy_can_say_all_of_delayed_retry() -> None:
    found = features(
        {},
        {
            "delayed-retry-type": "all",
            "delayed-retry-min": 100,
            "delayed-retry-max": 900,
            "delayed-retry-multiplier": 2,
            "delayed-retry-jitter": 10,
        },
    )
    assert found.retry_type == RETRY_ALL
    assert (found.retry_min, found.retry_max, found.retry_multiplier, found.retry_jitter) == (100, 900, 2, 10)


def test_a_first_delay_alone_is_for_all_and_a_type_alone_has_a_delay() -> None:
    assert features({"x-delayed-retry-min": 5}).retry_type == RETRY_ALL
    assert features({"x-delayed-retry-type": "failed"}).retry_min == 1000
    assert (
        features({"x-delayed-retry-type": "disabled", "x-delayed-retry-min": 5}).retry_type == RETRY_DISABLED
    )


def test_a_policy_can_switch_deduplication_on() -> None:
    found = features({}, {"x-message-deduplication": True, "x-cache-size": 5, "x-cache-ttl": 6})
    assert terms_of(found) == ("x-deduplication-header", 5, 6)


def test_a_default_delivery_limit_is_for_quorum_queues_that_have_no_other() -> None:
    quorum = table_of({"x-queue-type": "quorum"})
    limited = table_of({"x-queue-type": "quorum", "x-delivery-limit": 30})
    freed = table_of({"x-queue-type": "quorum", "x-delivery-limit": -1})
    assert features_of(quorum, NONE, 20).delivery_limit == 20
    assert features_of(limited, NONE, 20).delivery_limit == 30
    assert features_of(freed, NONE, 20).delivery_limit == NO_LIMIT
    assert features_of({}, NONE, 20).delivery_limit == NO_LIMIT


def test_values_that_older_brokers_took_do_no_harm() -> None:
    odd: dict[str, object] = {name: {"a": [1]} for name in LIMITS}
    odd |= {
        "x-overflow": 7,
        "x-delayed-retry-type": "later",
        "x-dead-letter-exchange": 5,
        "x-consumer-timeout": True,
    }
    assert values(features(odd)) == values(QueueFeatures())
