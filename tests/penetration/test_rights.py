"""To do what a user has no right to, or not any more."""

from __future__ import annotations

from typing import Any

import pytest

from tests.conversations.client import Channel
from tests.penetration.site import FULL, Site, closed, permission, published, refused, user

MALLORY = "refused for user 'mallory'"


@pytest.fixture
def mallory(site: Site) -> Channel:
    return site.channel("mallory")


@pytest.fixture
def alice(site: Site) -> Channel:
    return site.channel("alice")


@pytest.fixture
def treasure(alice: Channel) -> str:
    """A queue of somebody else's, with a message in it."""
    alice.declare("treasure", auto_delete=False)
    alice.publish(b"gold", routing_key="treasure")
    return "treasure"


@pytest.fixture(autouse=True)
def tidy(request: pytest.FixtureRequest, site: Site) -> Any:
    yield
    if "treasure" in request.fixturenames:
        site.channel("boss").call("queue.delete", queue="treasure")


def is_still_there(alice: Channel) -> None:
    """Nobody has touched the message."""
    assert alice.counts("treasure") == (1, 0)
    message = alice.get("treasure", no_ack=False)
    assert message is not None
    assert (message.body, message["redelivered"]) == (b"gold", False)
    alice.send("basic.nack", delivery_tag=0, multiple=True, requeue=True)


# -- to somebody else's queue


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("basic.get", {}),
        ("basic.consume", {"no_ack": True}),
        ("queue.purge", {}),
        ("queue.delete", {}),
        ("queue.declare", {}),
        ("queue.declare", {"arguments": {"x-expires": 1}}),
        ("queue.bind", {"exchange": "amq.topic", "routing_key": "news.x"}),
        ("queue.unbind", {"exchange": "amq.topic", "routing_key": "news.x"}),
    ],
)
def test_a_queue_without_rights_is_not_touched_by_any_method(
    mallory: Channel, alice: Channel, treasure: str, name: str, arguments: dict[str, Any]
) -> None:
    mallory.send(name, queue=treasure, **arguments)
    assert refused(mallory, 403) == f"access to queue 'treasure' in vhost '/' {MALLORY}"
    is_still_there(alice)


@pytest.mark.parametrize("name", ["basic.get", "basic.consume", "queue.purge", "queue.delete", "queue.bind"])
def test_the_queue_declared_last_needs_the_same_rights_under_its_empty_name(
    mallory: Channel, alice: Channel, treasure: str, name: str
) -> None:
    """A passive declaration needs no right, and makes a queue the one that an empty name stands for."""
    mallory.call("queue.declare", queue=treasure, passive=True)
    mallory.send(
        name, queue="", **({"exchange": "amq.topic", "routing_key": "news.x"} if "bind" in name else {})
    )
    assert refused(mallory, 403).startswith("access to queue 'treasure'")
    is_still_there(alice)


def test_nowait_hides_no_refusal(mallory: Channel, alice: Channel, treasure: str) -> None:
    for name in ("queue.declare", "queue.delete", "queue.purge", "basic.consume"):
        mallory.send(name, queue=treasure, nowait=True)
        refused(mallory, 403)
    is_still_there(alice)


def test_an_exclusive_queue_of_another_connection_is_closed_to_all_methods(
    site: Site, alice: Channel
) -> None:
    """Also to another connection of its own user."""
    name = alice.declare("private", exclusive=True)
    alice.publish(b"mine", routing_key=name)
    for intruder in (site.channel("alice"), site.channel("boss")):
        for method in (
            "basic.get",
            "basic.consume",
            "queue.purge",
            "queue.delete",
            "queue.declare",
            "queue.bind",
        ):
            more = {"exchange": "amq.fanout"} if method == "queue.bind" else {}
            intruder.send(method, queue=name, **more)
            refused(intruder, 405)
        for flags in ({"passive": True}, {"exclusive": True}, {"exclusive": True, "auto_delete": True}):
            intruder.send("queue.declare", queue=name, **flags)
            refused(intruder, 405)
    assert alice.drain(name) == ["mine"]


def test_a_name_is_not_stretched_by_line_breaks_or_nuls(
    mallory: Channel, alice: Channel, treasure: str
) -> None:
    """RabbitMQ takes line breaks out of names; what is then left is what the rights are for."""
    for name in ("tre\nasure", "treasure\r\n", "\ntreasure"):
        mallory.send("queue.delete", queue=name)
        assert refused(mallory, 403).startswith("access to queue 'treasure'")
    mallory.send("basic.get", queue="treasure\0")
    refused(mallory, 403)
    is_still_there(alice)


def test_reserved_names_are_not_reached_around_a_line_break(alice: Channel) -> None:
    for name in ("amq.evil", "a\rmq.evil", "\namq.evil", "amq\n.evil"):
        alice.send("queue.declare", queue=name)
        assert "reserved prefix" in refused(alice, 403)
        alice.send("exchange.declare", exchange=name, type="fanout")
        assert "reserved prefix" in refused(alice, 403)


def test_names_that_nobody_can_read_do_no_harm(alice: Channel) -> None:
    for name in (
        "x" * 255,
        "nul\0inside",
        "\u202etxt.exe",
        "\x1b[2J",
        "naïve\u0301",
        "'; DROP TABLE",
        "../../etc",
    ):
        alice.declare(name, auto_delete=True)
        alice.publish(b"x", routing_key=name)
        assert alice.drain(name) == ["x"]
        alice.call("queue.delete", queue=name)


def test_the_exchanges_that_are_always_there_are_not_deleted(site: Site) -> None:
    boss = site.channel("boss")
    for name in ("amq.direct", "amq.topic", "amq.rabbitmq.trace", "amq.\ndirect", ""):
        boss.send("exchange.delete", exchange=name)
        refused(boss, 403)


# -- by publishing


def test_without_the_right_to_write_nothing_is_published_to_the_default_exchange(
    mallory: Channel, alice: Channel, treasure: str
) -> None:
    for exchange in ("", "amq.default"):
        mallory.publish(b"lead", exchange=exchange, routing_key=treasure)
        reply = mallory.receive()
        assert reply["reply_code"] in (403, 404)
        mallory.send("channel.close-ok")
        mallory.open()
    is_still_there(alice)


@pytest.mark.parametrize("header", ["CC", "BCC"])
def test_a_key_that_may_not_be_written_is_not_used_by_way_of_cc_or_bcc(
    mallory: Channel, alice: Channel, header: str
) -> None:
    queue = alice.declare("", exclusive=True)
    alice.bind(queue, "amq.topic", "alice.#")
    for keys in (["alice.x"], ["mallory.y", "alice.x"], [b"alice.x"]):
        mallory.publish(b"x", exchange="amq.topic", routing_key="mallory.x", headers={header: keys})
        assert refused(mallory, 403).startswith("access to topic 'alice.x' in exchange 'amq.topic'")
    assert alice.drain(queue) == []


def test_copies_to_the_default_exchange_need_the_right_to_it(
    mallory: Channel, alice: Channel, treasure: str
) -> None:
    mallory.publish(
        b"lead", exchange="amq.topic", routing_key="mallory.x", headers={"BCC": ["mallory." + treasure]}
    )
    mallory.publish(b"lead", exchange="", routing_key="mallory", headers={"CC": [treasure]})
    assert refused(mallory, 403).startswith("access to exchange 'amq.default'")
    is_still_there(alice)


def test_the_same_key_again_is_no_way_around_a_topic_permission(mallory: Channel) -> None:
    """What is remembered of a publish that was allowed is for that key."""
    for _ in range(3):
        mallory.publish(b"x", exchange="amq.topic", routing_key="mallory.x")
        mallory.publish(b"x", exchange="amq.topic", routing_key="mallorx.x")
        refused(mallory, 403)


def test_a_user_named_like_a_pattern_is_only_itself_in_a_topic_permission(site: Site) -> None:
    r"""`^{username}\.` for a user called `.*` means these two characters."""
    channel = site.channel(".*")
    channel.publish(b"x", exchange="amq.topic", routing_key="alice.x")
    assert refused(channel, 403).startswith("access to topic 'alice.x'")
    channel.publish(b"x", exchange="amq.topic", routing_key=".*.x")
    channel.hears_nothing()


def test_a_user_named_like_a_range_is_only_its_letters_in_a_topic_permission(site: Site) -> None:
    r"""`^[{username}]\.` for a user called `a-z` means three characters, the second of which is a hyphen."""
    channel = site.channel("a-z")
    for letter in ("m", "b", "y"):
        channel.publish(b"x", exchange="amq.topic", routing_key=f"{letter}.x")
        refused(channel, 403)
    for letter in "a-z":
        channel.publish(b"x", exchange="amq.topic", routing_key=f"{letter}.x")
    channel.hears_nothing()


def test_a_binding_reads_no_key_that_a_topic_permission_keeps_back(mallory: Channel) -> None:
    queue = mallory.declare("mallory.q", exclusive=True)
    mallory.call("exchange.declare", exchange="mallory.x", type="fanout", auto_delete=True)
    for key in ("#", "alice.#", "*.news.", "\nnews.x", ""):
        mallory.send("queue.bind", queue=queue, exchange="amq.topic", routing_key=key, arguments={"x": 1})
        refused(mallory, 403)
        mallory.send("exchange.bind", destination="mallory.x", source="amq.topic", routing_key=key)
        refused(mallory, 403)
    mallory.bind(queue, "amq.topic", "news.#")


def test_an_exchange_without_rights_is_not_bound_to_by_queue_or_exchange(mallory: Channel) -> None:
    queue = mallory.declare("mallory.q", exclusive=True)
    mallory.call("exchange.declare", exchange="mallory.x", type="fanout", auto_delete=True)
    for source in ("amq.fanout", "amq.headers", "amq.rabbitmq.trace"):
        mallory.send("queue.bind", queue=queue, exchange=source)
        refused(mallory, 403)
        mallory.send("exchange.bind", destination="mallory.x", source=source)
        refused(mallory, 403)


def test_an_exchange_without_rights_gets_nothing_through_one_of_ones_own(mallory: Channel) -> None:
    mallory.call("exchange.declare", exchange="mallory.x", type="fanout", auto_delete=True)
    for destination in ("amq.fanout", "amq.direct"):
        mallory.send("exchange.bind", destination=destination, source="mallory.x")
        assert refused(mallory, 403) == f"access to exchange '{destination}' in vhost '/' {MALLORY}"


def test_dead_letters_go_to_no_exchange_without_rights(
    mallory: Channel, alice: Channel, treasure: str
) -> None:
    for exchange in ("", "amq.default", "amq.fanout", "amq.direct"):
        arguments = {
            "x-dead-letter-exchange": exchange,
            "x-dead-letter-routing-key": treasure,
            "x-message-ttl": 0,
        }
        mallory.send("queue.declare", queue="mallory.q", arguments=arguments)
        assert refused(mallory, 403).startswith("access to exchange 'amq.")
    is_still_there(alice)


def test_dead_letters_of_a_queue_that_may_not_be_read_go_nowhere(site: Site) -> None:
    site.reload(
        users=[user("writer")],
        permissions=[permission("writer", {"configure": ".*", "write": ".*", "read": "^$"})],
    )
    writer = site.channel("writer")
    writer.send("queue.declare", queue="writers", arguments={"x-dead-letter-exchange": "amq.fanout"})
    assert refused(writer, 403).startswith("access to queue 'writers'")


def test_an_alternate_exchange_without_rights_gets_nothing(mallory: Channel) -> None:
    for alternate in ("amq.fanout", "amq.direct"):
        mallory.send(
            "exchange.declare",
            exchange="mallory.ae",
            type="direct",
            arguments={"alternate-exchange": alternate},
        )
        assert refused(mallory, 403) == f"access to exchange '{alternate}' in vhost '/' {MALLORY}"


def test_an_internal_exchange_takes_nothing_from_a_client(alice: Channel) -> None:
    alice.call("exchange.declare", exchange="inside", type="fanout", internal=True, auto_delete=True)
    for exchange in ("inside", "amq.rabbitmq.trace"):
        alice.publish(b"x", exchange=exchange)
        assert refused(alice, 403).startswith("cannot publish to internal exchange")
    alice.call("exchange.delete", exchange="inside")


# -- in somebody else's name


def test_nobody_publishes_in_the_name_of_another(mallory: Channel) -> None:
    mallory.call("exchange.declare", exchange="mallory.x", type="fanout", auto_delete=True)
    queue = mallory.declare("mallory.q", exclusive=True)
    mallory.bind(queue, "mallory.x")
    for name in ("alice", "Mallory", "mallory ", "mallory\0", "", b"mallory\xff", "guest"):
        mallory.publish(b"x", exchange="mallory.x", user_id=name)
        assert refused(mallory, 406).startswith("user_id property set to")
    assert mallory.drain(queue) == []


def test_nobody_impersonates_after_the_first_message_was_checked(mallory: Channel) -> None:
    mallory.call("exchange.declare", exchange="mallory.x", type="fanout", auto_delete=True)
    for _ in range(3):
        mallory.publish(b"x", exchange="mallory.x", user_id="mallory")
        mallory.publish(b"x", exchange="mallory.x", user_id="alice")
        refused(mallory, 406)


def test_the_tag_to_impersonate_ends_with_the_tag(site: Site) -> None:
    channel = site.channel("fading.tag")
    channel.publish(b"x", exchange="amq.fanout", user_id="alice")
    channel.hears_nothing()
    site.reload(users=[user("fading.tag")])
    channel.publish(b"x", exchange="amq.fanout", user_id="alice")
    refused(channel, 406)


def test_a_blind_copy_stays_blind(alice: Channel) -> None:
    """Neither the reader of the message, nor of its dead letter, nor the sender of one that came back sees it."""
    dead = alice.declare("", exclusive=True)
    arguments = {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": dead}
    first = alice.declare("", exclusive=True, arguments=arguments)
    alice.publish(b"x", routing_key=first, headers={"BCC": ["nobody"], "CC": ["nobody-else"]})
    message = alice.get(first, no_ack=False)
    assert message is not None
    assert "BCC" not in message.properties["headers"]
    alice.send("basic.reject", delivery_tag=message["delivery_tag"], requeue=False)
    assert "BCC" not in alice.arrival(dead).properties["headers"]
    alice.publish(b"x", routing_key="nobody", mandatory=True, headers={"BCC": ["nobody"]})
    assert "BCC" not in alice.expect("basic.return").properties.get("headers", {})


# -- replies to others


@pytest.fixture
def address(site: Site, alice: Channel) -> str:
    """Where alice waits for direct replies, as somebody learns who is to reply."""
    alice.consume("amq.rabbitmq.reply-to", "replies", no_ack=True)
    queue = alice.declare("questions", exclusive=True)
    alice.publish(b"?", routing_key=queue, reply_to="amq.rabbitmq.reply-to")
    message = alice.get(queue)
    assert message is not None
    return str(message.properties["reply_to"])


@pytest.mark.parametrize(
    "method", ["basic.consume", "basic.get", "queue.purge", "queue.bind", "queue.delete"]
)
def test_who_was_told_where_to_reply_does_not_get_what_others_reply(
    site: Site, alice: Channel, address: str, method: str
) -> None:
    replier = site.channel("boss")
    replier.send(method, queue=address, **({"exchange": "amq.fanout"} if method == "queue.bind" else {}))
    if method == "queue.delete":
        # A queue that is not there is deleted without an error.
        assert replier.expect("queue.delete-ok")["message_count"] == 0
    else:
        assert refused(replier, 404) == f"no queue '{address}' in vhost '/'"
    replier.publish(b"!", routing_key=address)
    assert alice.expect("basic.deliver").body == b"!"


def test_who_was_told_where_to_reply_may_ask_whether_it_is_there_and_no_more(
    site: Site, alice: Channel, address: str
) -> None:
    replier = site.channel("boss")
    assert replier.counts(address) == (0, 1)
    replier.send("basic.consume", queue="", no_ack=True)
    assert refused(replier, 404).startswith("no queue 'amq.rabbitmq.reply-to.")
    replier.send("queue.declare", queue=address + "x")
    refused(replier, 404)


def test_addresses_for_replies_are_not_guessed_from_others(site: Site) -> None:
    """They have nothing in common but their beginning, and 128 bits of chance behind it."""
    seen = set()
    for _ in range(20):
        channel = site.channel("alice")
        channel.consume("amq.rabbitmq.reply-to", "r", no_ack=True)
        queue = channel.declare("", exclusive=True)
        channel.publish(b"?", routing_key=queue, reply_to="amq.rabbitmq.reply-to")
        message = channel.get(queue)
        assert message is not None
        seen.add(message.properties["reply_to"].removeprefix("amq.rabbitmq.reply-to."))
    assert len(seen) == 20
    assert {len(each) for each in seen} == {22}
    assert len({each[:4] for each in seen}) == 20


def test_a_reply_needs_the_right_to_the_default_exchange(
    mallory: Channel, alice: Channel, address: str
) -> None:
    mallory.publish(b"!", routing_key=address)
    assert refused(mallory, 403).startswith("access to exchange 'amq.default'")


# -- virtual hosts


@pytest.mark.parametrize("name", ["narrow", "secret", "nowhere", "", "//", "/ ", "/\0", "%2f", "*", ".*"])
def test_a_virtual_host_without_rights_is_not_opened(site: Site, name: str) -> None:
    client = site.dial()
    client.log_in(response=b"\0mallory\0mallory")
    client.send(0, "connection.tune-ok", **client.tune)
    client.send(0, "connection.open", virtual_host=name)
    assert closed(client, 530) in (
        f"access to vhost '{name}' refused for user 'mallory'",
        f"vhost {name} not found",
    )


def test_a_user_with_a_password_and_no_rights_opens_nothing(site: Site) -> None:
    client = site.dial()
    client.log_in(response=b"\0stranger\0stranger")
    client.send(0, "connection.tune-ok", **client.tune)
    client.send(0, "connection.open", virtual_host="/")
    assert closed(client, 530) == "access to vhost '/' refused for user 'stranger'"


def test_names_in_one_virtual_host_reach_nothing_in_another(site: Site, treasure: str) -> None:
    narrow = site.channel("alice", "narrow")
    for name in (treasure, "/treasure", "//treasure"):
        narrow.send("basic.get", queue=name)
        refused(narrow, 404)
    narrow.call("confirm.select")
    assert [reply.name for reply in published(narrow, routing_key=treasure, mandatory=True)] == [
        "basic.return"
    ]


# -- rights that go


NOTHING = {"configure": "^$", "write": "^$", "read": "^$"}


def test_a_right_to_write_that_goes_is_gone_on_an_open_channel(site: Site) -> None:
    channel = site.channel("fading.write")
    queue = channel.declare("", exclusive=True)
    for _ in range(3):
        channel.publish(b"before", routing_key=queue)
    channel.hears_nothing()
    site.reload(permissions=[permission("fading.write", FULL | {"write": "^$"})])
    channel.publish(b"after", routing_key=queue)
    assert refused(channel, 403).startswith("access to exchange 'amq.default'")
    assert channel.drain(queue) == ["before"] * 3


def test_a_right_to_read_that_goes_ends_consumers_at_once(site: Site, alice: Channel) -> None:
    alice.declare("fading-queue", auto_delete=False)
    channel = site.channel("fading.consume")
    channel.consume("fading-queue", "c", no_ack=True)
    site.reload(permissions=[permission("fading.consume", NOTHING)])
    channel.expect("basic.cancel", consumer_tag="c")
    alice.publish(b"secret", routing_key="fading-queue")
    channel.hears_nothing()
    assert alice.drain("fading-queue") == ["secret"]
    alice.call("queue.delete", queue="fading-queue")


def test_a_right_to_read_that_goes_ends_basic_get(site: Site, alice: Channel, treasure: str) -> None:
    channel = site.channel("fading.get")
    assert channel.get(treasure, no_ack=False) is not None
    site.reload(permissions=[permission("fading.get", NOTHING)])
    channel.send("basic.nack", delivery_tag=0, multiple=True, requeue=True)
    channel.send("basic.get", queue=treasure)
    refused(channel, 403)
    alice.counts_become(treasure, 1, 0)


def test_a_right_to_configure_that_goes_is_gone_on_an_open_channel(site: Site) -> None:
    channel = site.channel("fading.declare")
    queue = channel.declare("fading-own", exclusive=True)
    site.reload(permissions=[permission("fading.declare", NOTHING)])
    for name in ("queue.declare", "queue.delete"):
        channel.send(name, queue=queue, **({"exclusive": True} if name == "queue.declare" else {}))
        refused(channel, 403)


def test_a_topic_permission_that_narrows_counts_for_the_next_message(site: Site) -> None:
    channel = site.channel("fading.topic")
    channel.publish(b"x", exchange="amq.topic", routing_key="fading.topic.x")
    channel.hears_nothing()
    narrower = {
        "user": "fading.topic",
        "vhost": "/",
        "exchange": "amq.topic",
        "write": "^never$",
        "read": "^$",
    }
    site.reload(topic_permissions=[narrower])
    channel.publish(b"x", exchange="amq.topic", routing_key="fading.topic.x")
    refused(channel, 403)
