"""To stay when one is removed, or to administer the broker without being its owner."""

from __future__ import annotations

import json
import socket
import subprocess
from typing import Any

import pytest

from tests.penetration.site import FULL, Site, closed, digest, ends_silently, permission, plain, refused, user
from tests.penetration.test_logins import is_refused
from tests.server.broker_process import installed_command


def control(site: Site) -> socket.socket:
    connected = socket.socket(socket.AF_UNIX)
    connected.settimeout(20)
    connected.connect(str(site.process.data / "control.sock"))
    return connected


def said_to(site: Site, line: bytes) -> bytes:
    """What the control socket answers before it closes, or to one line."""
    with control(site) as connected:
        answer = b""
        try:
            connected.sendall(line)
            while not answer.endswith(b"\n") and (piece := connected.recv(65536)):
                answer += piece
        except ConnectionError:
            pass
        return answer


def administer(site: Site, verb: str, **arguments: Any) -> Any:
    """As the owner does it."""
    answer = json.loads(said_to(site, json.dumps({"verb": verb, "arguments": arguments}).encode() + b"\n"))
    assert "error" not in answer, answer
    return answer["result"]


def hired(site: Site, name: str, vhost: str = "/") -> None:
    site.reload(users=[user(name)], permissions=[permission(name, FULL, vhost)])


def dismissed(site: Site, name: str) -> None:
    """Remove a user, also from the file, which would bring it back."""
    site.rows = {
        key: [row for row in rows if name not in (row.get("name"), row.get("user"))]
        for key, rows in site.rows.items()
    }
    administer(site, "users.delete", name=name)


def test_a_deleted_user_is_thrown_out_and_does_not_come_back(site: Site) -> None:
    hired(site, "doomed")
    channel = site.channel("doomed")
    channel.declare("doomed-queue", exclusive=True)
    channel.consume("doomed-queue")
    assert site.asks_in(plain("doomed")) == "in"
    dismissed(site, "doomed")
    assert closed(channel.client, 320) == "user 'doomed' is deleted"
    assert is_refused(site.asks_in(plain("doomed")))
    boss = site.channel("boss")
    boss.send("queue.declare", queue="doomed-queue", passive=True)
    refused(boss, 404)


def test_who_logged_in_before_being_deleted_opens_nothing_afterwards(site: Site) -> None:
    """Nor does a user of the same name that was made meanwhile give back what the old one had."""
    hired(site, "waiting")
    client = site.dial()
    client.log_in(response=plain("waiting"))
    dismissed(site, "waiting")
    hired(site, "waiting")
    client.send(0, "connection.tune-ok", **client.tune)
    client.send(0, "connection.open", virtual_host="/")
    assert closed(client, 530) == "access to vhost '/' refused for user 'waiting'"


def test_a_user_made_anew_has_nothing_of_the_one_before(site: Site) -> None:
    hired(site, "heir")
    channel = site.channel("heir")
    dismissed(site, "heir")
    closed(channel.client, 320)
    site.reload(users=[user("heir", password_hash=digest("another"))])
    assert is_refused(site.asks_in(plain("heir")))
    client = site.dial()
    client.log_in(response=plain("heir", "another"))
    client.send(0, "connection.tune-ok", **client.tune)
    client.send(0, "connection.open", virtual_host="/")
    closed(client, 530)


def test_a_virtual_host_that_is_closed_to_a_user_throws_the_user_out(site: Site) -> None:
    channel = site.channel("fading.vhost")
    administer(site, "permissions.clear", user="fading.vhost", vhost="/")
    assert closed(channel.client, 320) == "access to vhost '/' refused for user 'fading.vhost'"
    client = site.dial()
    client.log_in(response=plain("fading.vhost"))
    client.send(0, "connection.tune-ok", **client.tune)
    client.send(0, "connection.open", virtual_host="/")
    closed(client, 530)


def test_a_virtual_host_made_anew_has_nothing_of_the_one_before(site: Site) -> None:
    administer(site, "vhosts.add", name="rebuilt")
    hired(site, "alice.rebuilt", "rebuilt")
    channel = site.channel("alice.rebuilt", "rebuilt")
    channel.declare("old", durable=True)
    channel.publish(b"secret", routing_key="old", delivery_mode=2)
    channel.hears_nothing()
    administer(site, "vhosts.delete", name="rebuilt")
    assert closed(channel.client, 320) == "vhost 'rebuilt' is deleted"
    administer(site, "vhosts.add", name="rebuilt")
    client = site.dial()
    client.log_in(response=plain("alice.rebuilt"))
    client.send(0, "connection.tune-ok", **client.tune)
    client.send(0, "connection.open", virtual_host="rebuilt")
    assert "access to vhost 'rebuilt' refused" in closed(client, 530)
    administer(site, "permissions.set", user="alice", vhost="rebuilt", **FULL)
    fresh = site.channel("alice", "rebuilt")
    fresh.send("queue.declare", queue="old", passive=True)
    refused(fresh, 404)
    site.rows["permissions"] = [row for row in site.rows["permissions"] if row["vhost"] != "rebuilt"]


def test_a_user_whose_password_was_taken_away_has_none_not_an_empty_one(site: Site) -> None:
    hired(site, "emptied")
    assert site.asks_in(plain("emptied")) == "in"
    administer(site, "users.clear_password", name="emptied")
    for password in ("emptied", ""):
        assert is_refused(site.asks_in(plain("emptied", password)))


def test_the_control_socket_is_for_its_owner_only(site: Site) -> None:
    place = site.process.data / "control.sock"
    assert place.stat().st_mode & 0o777 == 0o600
    assert place.parent.stat().st_mode & 0o777 == 0o700


GARBAGE = [
    b"\n",
    b"{}\n",
    b"[]\n",
    b"null\n",
    b"AMQP\0\0\x09\x01\n",
    b'{"verb": "users.delete"}\n',
    b'{"verb": "users.delete", "arguments": {"name": "alice", "too": 1}}\n',
    b'{"verb": "users.delete", "arguments": {"name": ["alice"]}}\n',
    b'{"verb": "__class__", "arguments": {}}\n',
    b'{"verb": "users.delete", "arguments": {"name": "nobody"}}\n',
    b'{"verb": "\xff"}\n',
    b"[" * 50_000 + b"\n",
]


@pytest.mark.parametrize("line", GARBAGE, ids=range(len(GARBAGE)))
def test_nonsense_on_the_control_socket_does_nothing(site: Site, line: bytes) -> None:
    answer = said_to(site, line)
    assert not answer or "error" in json.loads(answer), answer[:200]
    assert site.asks_in(plain("alice")) == "in"


def test_amqp_is_not_spoken_on_the_control_socket_nor_control_on_amqps(site: Site) -> None:
    assert b"AMQP" not in said_to(site, b"AMQP\0\0\x09\x01\n")
    client = site.dial()
    client.send_bytes(b'{"verb": "users.delete", "arguments": {"name": "boss"}}\n')
    assert client.receive_octets(8) == b"AMQP\0\0\x09\x01"
    ends_silently(client)
    assert site.asks_in(plain("boss")) == "in"


def test_what_clients_name_does_not_reach_the_administrators_terminal(site: Site) -> None:
    channel = site.channel("alice")
    channel.declare("\x1b]0;owned\x07\x9b2J\u202e", auto_delete=True)
    command = [*installed_command(), "queues", "list", "--data-dir", str(site.process.data)]
    shown = subprocess.run(command, capture_output=True, timeout=50, check=True).stdout.decode()
    assert "owned" in shown
    assert all(line.isprintable() for line in shown.splitlines()), shown
