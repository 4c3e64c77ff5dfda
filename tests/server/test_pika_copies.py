"""pika: further routing keys in the headers CC and BCC, and the property user-id."""

from __future__ import annotations

from typing import Any

import pika
import pytest
from pika.adapters.blocking_connection import BlockingChannel
from pika.exceptions import ChannelClosedByBroker

from tests.server.blocking import Inbox, drain, ready
from tests.server.target import Names


@pytest.fixture
def queues(channel: BlockingChannel, names: Names) -> list[str]:
    """Four of them."""
    declared = [names.queue() for _ in range(4)]
    for queue in declared:
        channel.queue_declare(queue)
    return declared


def copies(cc: Any, bcc: Any) -> pika.BasicProperties:
    return pika.BasicProperties(headers={"CC": cc, "BCC": bcc, "mine": "kept"})


@pytest.mark.parametrize("exchange", ["", "amq.direct", "amq.topic"])
def test_all_keys_lead_to_their_queues_and_bcc_is_seen_by_nobody(
    channel: BlockingChannel, queues: list[str], exchange: str
) -> None:
    to, cc, bcc, other = queues
    if exchange:
        for queue in queues:
            channel.queue_bind(queue, exchange, queue)
    channel.basic_publish(exchange, to, b"m", copies([cc, "nowhere"], [bcc]))
    for queue in (to, cc, bcc):
        inbox = Inbox(channel, queue, auto_ack=True)
        inbox.wait_for(1)
        assert inbox.properties[0].headers == {"CC": [cc, "nowhere"], "mine": "kept"}
        assert inbox.methods[0].routing_key == to
    assert ready(channel, other) == 0


def test_a_queue_that_several_keys_lead_to_gets_one_copy(channel: BlockingChannel, queues: list[str]) -> None:
    channel.basic_publish("", queues[0], b"m", copies([queues[0], queues[1]], [queues[1]]))
    assert [drain(channel, queue) for queue in queues] == [[b"m"], [b"m"], [], []]


def test_a_message_that_only_a_copy_is_routed_of_is_not_returned(
    channel: BlockingChannel, queues: list[str]
) -> None:
    channel.confirm_delivery()
    channel.basic_publish("", "nowhere", b"m", copies([queues[0]], []), mandatory=True)
    assert drain(channel, queues[0]) == [b"m"]
    with pytest.raises(pika.exceptions.UnroutableError) as returned:
        channel.basic_publish("", "nowhere", b"m", copies(["nowhere"], ["neither"]), mandatory=True)
    assert returned.value.messages[0].properties.headers == {"CC": ["nowhere"], "mine": "kept"}


@pytest.mark.parametrize(("cc", "bcc", "blamed"), [("text", [], "CC"), ([], "text", "BCC")])
def test_copies_that_are_no_array_are_406(
    channel: BlockingChannel, queues: list[str], cc: Any, bcc: Any, blamed: str
) -> None:
    channel.confirm_delivery()
    with pytest.raises(ChannelClosedByBroker) as closed:
        channel.basic_publish("", queues[0], b"m", copies(cc, bcc))
    assert (closed.value.reply_code, closed.value.reply_text) == (
        406,
        f'PRECONDITION_FAILED - invalid message: {{unacceptable_type_in_header,"{blamed}",longstr}}',
    )


def test_a_user_may_sign_with_its_own_name_and_with_no_other(
    channel: BlockingChannel, connection: pika.BlockingConnection, queues: list[str]
) -> None:
    channel.basic_publish("", queues[0], b"signed", pika.BasicProperties(user_id="guest"))
    inbox = Inbox(channel, queues[0], auto_ack=True)
    inbox.wait_for(1)
    assert inbox.properties[0].user_id == "guest"
    forging = connection.channel()
    forging.confirm_delivery()
    with pytest.raises(ChannelClosedByBroker) as closed:
        forging.basic_publish("", queues[1], b"forged", pika.BasicProperties(user_id="admin"))
    assert (closed.value.reply_code, closed.value.reply_text) == (
        406,
        "PRECONDITION_FAILED - user_id property set to 'admin' but authenticated user was 'guest'",
    )
    assert ready(channel, queues[1]) == 0
