"""Sender-selected distribution: the routing keys in the headers CC and BCC."""

from __future__ import annotations

from typing import Any

import pytest

from .client import Channel
from .codec import Typed
from .conftest import Names


@pytest.mark.parametrize("key", ["CC", "BCC"])
def test_further_routing_keys_reach_further_queues(channel: Channel, names: Names, key: str) -> None:
    first, second, third = (channel.declare(names.queue()) for _ in range(3))
    channel.publish("m", routing_key=first, headers={key: [second, third]})
    assert [channel.drain(queue) for queue in (first, second, third)] == [["m"]] * 3


def test_cc_is_seen_and_bcc_is_not(channel: Channel, names: Names) -> None:
    first, second, third = (channel.declare(names.queue()) for _ in range(3))
    headers = {"a": 1, "CC": [second], "BCC": [third], "z": 2}
    channel.publish("m", routing_key=first, headers=headers)
    for queue in (first, second, third):
        message = channel.get(queue)
        assert message is not None
        assert message["routing_key"] == first
        assert message.properties["headers"] == {
            "a": Typed("I", 1),
            "CC": Typed("A", [Typed("S", second)]),
            "z": Typed("I", 2),
        }


def test_a_queue_named_twice_gets_one_copy(channel: Channel, queue: str) -> None:
    channel.publish("m", routing_key=queue, headers={"CC": [queue, queue], "BCC": [queue]})
    assert channel.drain(queue) == ["m"]


def test_the_keys_of_cc_count_on_other_exchanges_too(channel: Channel, queue: str) -> None:
    channel.bind(queue, "amq.topic", f"{queue}.*")
    channel.publish("m", exchange="amq.topic", routing_key="no", headers={"CC": [f"{queue}.x"]})
    assert channel.drain(queue) == ["m"]


@pytest.mark.parametrize("key", ["CC", "BCC"])
@pytest.mark.parametrize(
    ("value", "kind"), [("q", "longstr"), (3, "signedint"), ({}, "table"), (None, "void")]
)
def test_cc_and_bcc_have_to_be_arrays(channel: Channel, key: str, value: Any, kind: str) -> None:
    channel.publish("m", exchange="amq.direct", headers={key: value})
    channel.refuses(406, f'invalid message: {{unacceptable_type_in_header,"{key}",{kind}}}', "basic.publish")


def test_what_is_no_string_in_cc_is_passed_over(channel: Channel, queue: str) -> None:
    channel.publish("m", routing_key="nowhere", headers={"CC": [3, None, queue]})
    assert channel.drain(queue) == ["m"]


def test_a_mandatory_message_of_unknown_cc_comes_back_without_bcc(channel: Channel) -> None:
    channel.publish("m", exchange="amq.direct", mandatory=True, headers={"CC": ["a"], "BCC": ["b"]})
    returned = channel.expect("basic.return", routing_key="")
    assert returned.properties == {"headers": {"CC": Typed("A", [Typed("S", "a")])}}


def test_the_alternate_exchange_is_for_messages_of_which_no_key_leads_anywhere(
    channel: Channel, names: Names, queue: str
) -> None:
    alternate, direct = names.exchange(), names.exchange()
    fallback = channel.declare(names.queue())
    channel.call("exchange.declare", exchange=alternate, type="fanout")
    channel.bind(fallback, alternate)
    arguments = {"alternate-exchange": alternate}
    channel.call("exchange.declare", exchange=direct, type="direct", arguments=arguments)
    channel.bind(queue, direct, "k")
    for key, copied in (("k", "x"), ("x", "k"), ("x", "y")):
        channel.publish(key + copied, exchange=direct, routing_key=key, headers={"CC": [copied]})
    assert channel.drain(queue) == ["kx", "xk"]
    assert channel.drain(fallback) == ["xy"]


@pytest.mark.parametrize("value", [[], [3]])
def test_bcc_without_a_key_is_not_seen_either(channel: Channel, queue: str, value: list[int]) -> None:
    channel.publish("m", routing_key=queue, headers={"a": 1, "BCC": value})
    message = channel.get(queue)
    assert message is not None
    assert message.properties["headers"] == {"a": Typed("I", 1)}
