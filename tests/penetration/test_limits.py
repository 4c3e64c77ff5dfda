"""To have more than a limit allows."""

from __future__ import annotations

from tests.conversations.client import Channel, Client
from tests.penetration.site import Site, closed, plain, refused


def rush(site: Site, name: str, vhost: str, count: int) -> list[Client]:
    """So many connections that are all opened at the same moment; those that got in."""
    clients = [site.dial() for _ in range(count)]
    for client in clients:
        client.log_in(response=plain(name))
        client.send(0, "connection.tune-ok", **(client.tune | {"heartbeat": 0}))
    for client in clients:
        client.send(0, "connection.open", virtual_host=vhost)
    inside = []
    for client in clients:
        reply = client.receive(0)
        if reply.name == "connection.open-ok":
            inside.append(client)
        else:
            assert reply["reply_code"] == 530, reply
    return inside


def test_connections_that_come_at_once_are_no_more_than_the_user_may_have(site: Site) -> None:
    inside = rush(site, "few", "/", 12)
    assert len(inside) == 3
    inside[0].close()
    assert len(rush(site, "few", "/", 5)) == 1


def test_connections_that_come_at_once_are_no_more_than_the_virtual_host_takes(site: Site) -> None:
    assert len(rush(site, "alice", "narrow", 12)) == 3


def test_channels_on_several_connections_are_no_more_than_the_user_may_have(site: Site) -> None:
    first, second = site.opened("few"), site.opened("few")
    for number in range(1, 5):
        first.channel(number)
    second.channel(1)
    second.send(2, "channel.open")
    assert "user limit of (5)" in closed(second, 530)
    first.channel(5)
    first.send(6, "channel.open")
    closed(first, 530)


def test_channels_that_were_closed_by_errors_are_neither_free_nor_counted_twice(site: Site) -> None:
    client = site.opened("few")
    channels = [client.channel(number) for number in range(1, 6)]
    for _ in range(5):
        for channel in channels:
            channel.send("basic.get", queue="not there")
            refused(channel, 404)
    client.send(6, "channel.open")
    closed(client, 530)


def test_queues_of_any_kind_are_no_more_than_the_virtual_host_takes(site: Site) -> None:
    """By name, without one, exclusive, durable, with and without an answer."""
    channel = site.channel("alice", "narrow")
    channel.declare("one", exclusive=True)
    channel.declare("", exclusive=True)
    channel.declare("three", auto_delete=True)
    channel.send("queue.declare", queue="four", nowait=True)
    for arguments in ({"queue": "five"}, {"queue": ""}, {"queue": "five", "exclusive": True, "nowait": True}):
        channel.send("queue.declare", **arguments)
        assert "queue limit in vhost 'narrow' (4) is reached" in refused(channel, 406)
    for name in ("three", "four"):
        channel.call("queue.delete", queue=name)


def test_a_channel_above_the_negotiated_number_is_not_opened(site: Site) -> None:
    client = site.dial()
    client.log_in(response=plain("alice"))
    client.send(0, "connection.tune-ok", **(client.tune | {"channel_max": 5, "heartbeat": 0}))
    client.send(0, "connection.open", virtual_host="/")
    client.expect("connection.open-ok")
    client.channel(5)
    client.send(6, "channel.open")
    assert "negotiated channel_max (5)" in closed(client, 530)


def test_a_message_above_the_limit_is_refused_at_its_header(site: Site) -> None:
    """Nothing of its body has to come, and nothing is kept for it."""
    channel = site.channel("alice")
    for size in (134217729, 2**63 - 1, 2**63, 2**64 - 1):
        channel.send("basic.publish", exchange="", routing_key="nobody")
        channel.client.send_frame(2, channel.number, b"\0\x3c\0\0" + size.to_bytes(8, "big") + b"\0\0")
        assert "is larger than configured max size 134217728" in refused(channel, 406)


def test_a_consumer_holds_no_more_unacknowledged_than_its_prefetch(site: Site) -> None:
    channel = site.channel("alice")
    queue = channel.declare("", exclusive=True)
    for number in range(6):
        channel.publish(b"%d" % number, routing_key=queue)
    channel.call("basic.qos", prefetch_count=2)
    channel.consume(queue)
    assert len(channel.deliveries(2)) == 2
    channel.hears_nothing()
    channel.send("basic.recover", requeue=True)
    channel.expect("basic.recover-ok")
    assert [reply.body for reply in channel.deliveries(2)] == [b"0", b"1"]
    channel.hears_nothing()


def test_acknowledging_what_is_another_channels_moves_nothing(site: Site) -> None:
    owner, other = site.channel("alice"), site.channel("alice")
    queue = owner.declare("acked-elsewhere", auto_delete=False)
    owner.publish(b"x", routing_key=queue)
    assert owner.get(queue, no_ack=False) is not None
    for tag in (1, 2, 2**63, 2**64 - 1):
        other.send("basic.ack", delivery_tag=tag)
        assert refused(other, 406).startswith("unknown delivery tag")
    neighbour = Channel(owner.client, 7)
    neighbour.open()
    neighbour.send("basic.ack", delivery_tag=1)
    refused(neighbour, 406)
    owner.send("basic.nack", delivery_tag=1, requeue=True)
    assert owner.arrival(queue).body == b"x"
    owner.call("queue.delete", queue=queue)
