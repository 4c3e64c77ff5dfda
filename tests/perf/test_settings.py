"""The flags as a checked value: addresses, names, wrong combinations, and how processes share the work."""

from __future__ import annotations

from typing import Any

import pytest

from amqp_broker.perf.settings import (
    Address,
    Settings,
    SettingsError,
    parse_arguments,
    parse_boolean,
    parse_flags,
    parse_names,
    parse_uri,
    sequence,
    shares,
)


@pytest.mark.parametrize(
    ("uri", "address"),
    [
        ("amqp://", Address("localhost", 5672, "guest", "guest", "/", False)),
        ("amqp://host", Address("host", 5672, "guest", "guest", "/", False)),
        ("amqp://host/", Address("host", 5672, "guest", "guest", "", False)),
        ("amqp://u:p@host:1/v", Address("host", 1, "u", "p", "v", False)),
        ("amqp://u%40:p%3A@h/%2f", Address("h", 5672, "u@", "p:", "/", False)),
        ("amqp://[::1]:5673/a%2Fb", Address("::1", 5673, "guest", "guest", "a/b", False)),
        ("amqps://host", Address("host", 5671, "guest", "guest", "/", True)),
    ],
)
def test_an_address_is_read_as_rabbitmq_reads_it(uri: str, address: Address) -> None:
    assert parse_uri(uri) == address


@pytest.mark.parametrize(
    "uri", ["http://host", "localhost:5672", "amqp://host:port", "amqp://host:99999", ""]
)
def test_an_address_that_is_none_is_refused(uri: str) -> None:
    with pytest.raises(SettingsError):
        parse_uri(uri)


def test_queue_arguments_have_the_type_they_look_like() -> None:
    text = "x-max-length=10, x-queue-type=quorum,x-single-active-consumer=true,x-odd=a=b"
    assert parse_arguments(text) == {
        "x-max-length": 10,
        "x-queue-type": "quorum",
        "x-single-active-consumer": True,
        "x-odd": "a=b",
    }
    with pytest.raises(SettingsError, match="key=value"):
        parse_arguments("x-max-length")


def test_flags_may_be_repeated_or_joined() -> None:
    assert parse_flags(["persistent,mandatory"]) == parse_flags(["persistent", "mandatory"])
    with pytest.raises(SettingsError, match="'immediate'"):
        parse_flags(["immediate"])


def test_words_for_true_and_false() -> None:
    assert parse_boolean("True")
    assert not parse_boolean("false")
    with pytest.raises(SettingsError):
        parse_boolean("1")


def test_queue_names_come_from_a_list_or_a_pattern() -> None:
    assert parse_names("a,b,") == ("a", "b")
    assert sequence("q-%03d", 9, 11) == ("q-009", "q-010", "q-011")
    for pattern in ("q", "q-%d-%d", "q-%"):
        with pytest.raises(SettingsError, match="one %d"):
            sequence(pattern, 1, 2)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"producers": 0, "consumers": 0}, "nothing to do"),
        ({"producers": -1}, "--producers must be at least 0"),
        ({"frame_max": 4095}, "--framemax must be at least 4096"),
        ({"qos": 65536}, "65535"),
        ({"seconds": -1}, "--time"),
        ({"interval": 0}, "--interval"),
        ({"autoack": True, "multi_ack_every": 5}, "exclude each other"),
        ({"multi_ack_every": 10, "qos": 5}, "exceeds the prefetch of 5"),
        ({"multi_ack_every": 10, "global_qos": 9, "qos": 20}, "exceeds the prefetch of 9"),
        ({"queue_per_key": True}, "no queues"),
    ],
)
def test_what_cannot_work_is_refused_with_a_reason(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(SettingsError, match=said):
        Settings(**wrong)


def test_one_named_queue_is_its_own_routing_key() -> None:
    assert Settings(queue_names=("jobs",)).routing_key == "jobs"
    assert Settings(queue_names=("jobs",), routing_key="other").routing_key == "other"
    assert Settings().routing_key != Settings().routing_key


def test_clients_take_turns_on_many_queues() -> None:
    settings = Settings(producers=4, consumers=3, queue_names=("a", "b", "c"), queue_per_key=True)
    assert [settings.key_for(number) for number in range(4)] == ["a", "b", "c", "a"]
    assert [settings.queues_for(number) for number in range(3)] == [("a",), ("b",), ("c",)]


@pytest.mark.parametrize(
    ("settings", "copies"),
    [
        ({"queue_names": ("q",)}, 1),
        ({"queue_names": ("q", "r")}, 2),
        ({"consumers": 3}, 3),
        ({"consumers": 3, "consumer_channels": 2, "exchange_type": "fanout"}, 6),
        ({"exchange": "", "queue_names": ("q",)}, 1),
        ({"exchange": "", "queue_names": ("q",), "routing_key": "other"}, None),
        ({"exchange_type": "headers", "queue_names": ("q",)}, None),
        ({"skip_binding": True, "queue_names": ("q",)}, None),
        ({"queue_names": ("a", "b"), "queue_per_key": True, "producers": 2, "consumers": 2}, 1),
        ({"queue_names": ("a", "b"), "queue_per_key": True, "producers": 2, "consumers": 1}, None),
        ({"consumers": 0, "queue_names": ("q",)}, None),
    ],
)
def test_the_expected_copies_of_a_message(settings: dict[str, Any], copies: int | None) -> None:
    assert Settings(**settings).copies() == copies


@pytest.mark.parametrize(
    ("producers", "consumers", "processes"), [(1, 1, 1), (1, 1, 2), (5, 3, 4), (1, 3, 9), (0, 2, 2)]
)
def test_shares_add_up_to_the_whole(producers: int, consumers: int, processes: int) -> None:
    whole = Settings(producers=producers, consumers=consumers, processes=processes)
    dealt = shares(whole)
    assert len(dealt) == min(processes, producers + consumers)
    assert all(share.producers + share.consumers for share in dealt)
    made = [
        number
        for share in dealt
        for number in range(share.first_producer, share.first_producer + share.producers)
    ]
    used = [
        number
        for share in dealt
        for number in range(share.first_consumer, share.first_consumer + share.consumers)
    ]
    assert (made, used) == (list(range(producers)), list(range(consumers)))
    assert {share.routing_key for share in dealt} == {whole.routing_key}
