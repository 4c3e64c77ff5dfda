"""To get through TLS with less than it asks for, or to be somebody else by a certificate."""

from __future__ import annotations

import socket
import ssl
import warnings
from pathlib import Path

import pytest

from tests.penetration.certificates import UNREADABLE, Files, issue
from tests.penetration.site import Site, ends_silently, opened, plain
from tests.penetration.test_logins import is_refused
from tests.server.secure import CLOSED, Authority, StreamTransport, tls_port


def by_certificate(site: Site, shown: Files | None, response: bytes = b"") -> str:
    return site.asks_in(response, "EXTERNAL", site.dial_tls(shown))


def handshake_fails(site: Site, context: ssl.SSLContext) -> None:
    """With TLS 1.3 a client learns of it with the first octet that it waits for."""
    try:
        client = site.dial_tls(context=context)
        client.send_bytes(b"AMQP\0\0\x09\x01")
        assert client.receive_octets(1) == b""
    except CLOSED:
        return


def test_the_certificate_of_a_user_lets_in_that_user_and_no_other(site: Site, authority: Authority) -> None:
    mallory = issue(authority, "mallory", "mallory")
    assert by_certificate(site, mallory) == "in"
    for response in (b"boss", b"\0boss\0boss", b"mallory\0", b"Mallory"):
        assert is_refused(by_certificate(site, mallory, response))
    channel = opened(site.dial_tls(mallory), "", response=b"", mechanism="EXTERNAL").channel()
    channel.publish(b"x", exchange="amq.topic", routing_key="mallory.x", user_id="boss")
    assert channel.receive()["reply_code"] == 406


@pytest.mark.parametrize(
    "names",
    [
        ("boss\0.mallory",),
        ("boss", "mallory"),
        ("mallory", "boss"),
        ("boss ",),
        ("CN=boss",),
        ("boss,",),
        ("BOSS",),
    ],
)
def test_a_common_name_that_is_not_exactly_the_user_is_nobody(
    site: Site, authority: Authority, names: tuple[str, ...]
) -> None:
    """With a NUL in it, as one of two, with a blank: such certificates have been issued to people who asked."""
    assert is_refused(by_certificate(site, issue(authority, "trick", *names)))


def test_a_certificate_without_a_common_name_is_not_even_offered_the_mechanism(
    site: Site, authority: Authority
) -> None:
    assert by_certificate(site, issue(authority, "nameless")) == ""


def test_a_user_without_a_password_is_let_in_by_its_own_certificate_alone(
    site: Site, authority: Authority
) -> None:
    assert by_certificate(site, issue(authority, "ghost", "ghost")) == "in"
    assert is_refused(by_certificate(site, issue(authority, "mallory", "mallory"), b"ghost"))
    assert is_refused(site.asks_in(plain("ghost", ""), client=site.dial_tls()))


def test_no_certificate_no_external(site: Site) -> None:
    assert by_certificate(site, None) == ""
    assert by_certificate(site, None, b"boss") == ""


def test_a_certificate_of_another_authority_lets_nobody_in(site: Site, folder: Path) -> None:
    stranger = Authority(folder / "stranger")
    context = site.authority.trusting(issue(stranger, "boss", "boss"))
    handshake_fails(site, context)


def test_a_certificate_that_signed_itself_in_the_authoritys_name_lets_nobody_in(
    site: Site, authority: Authority
) -> None:
    handshake_fails(site, authority.trusting(issue(authority, "forged", "boss", by_itself=True)))


def test_an_expired_certificate_lets_nobody_in(site: Site, authority: Authority) -> None:
    handshake_fails(site, authority.trusting(issue(authority, "expired", "boss", days=-1)))


def test_a_certificate_that_cannot_be_read_stops_nobody_else(site: Site, authority: Authority) -> None:
    """Issued by the right authority, with a host name of octets that are no text."""
    before = len(site.process.stderr())
    handshake_fails(site, authority.trusting(issue(authority, "unreadable", "boss", extension=UNREADABLE)))
    site.logs("TLS handshake failed: its certificate cannot be read", before)
    assert site.asks_in(plain("alice"), client=site.dial_tls()) == "in"


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1])
def test_an_old_version_of_tls_is_not_spoken(
    site: Site, authority: Authority, version: ssl.TLSVersion
) -> None:
    context = authority.trusting()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = context.maximum_version = version
    context.set_ciphers("ALL:@SECLEVEL=0")
    handshake_fails(site, context)


@pytest.mark.parametrize(
    "ciphers", ["AES128-SHA", "AES256-GCM-SHA384", "ECDHE-ECDSA-AES128-SHA", "aNULL", "eNULL"]
)
def test_a_cipher_without_forward_secrecy_or_authenticated_encryption_is_not_used(
    site: Site, authority: Authority, ciphers: str
) -> None:
    context = authority.trusting()
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    context.set_ciphers(f"{ciphers}:@SECLEVEL=0")
    handshake_fails(site, context)


@pytest.mark.parametrize("name", [b"\xff\xfe\n\x1b[2Jab.ex", b"xn--\xc3\xa9.examp", b"\x80" * 12])
def test_a_server_name_that_is_none_is_told_in_one_line(
    site: Site, authority: Authority, name: bytes
) -> None:
    """Asked for before anybody is known to be there."""
    outgoing = ssl.MemoryBIO()
    asking = authority.trusting().wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname="abcd.example")
    with pytest.raises(ssl.SSLWantReadError):
        asking.do_handshake()
    port = tls_port(site.process.ready_line)
    client = site.on(StreamTransport(socket.create_connection(("127.0.0.1", port), timeout=30)))
    before = len(site.process.stderr())
    assert len(name) == len(b"abcd.example")
    client.send_bytes(outgoing.read().replace(b"abcd.example", name))
    client.receive_octets(200)
    ends_silently(client)
    site.logs(r"TLS handshake failed: it asks for a server name that is none\n", before)
    assert "Exception" not in site.process.stderr()[before:]


def test_nothing_in_the_clear_is_taken_where_tls_is_due(site: Site) -> None:
    for start in (b"AMQP\0\0\x09\x01", b"PROXY TCP4 127.0.0.1 127.0.0.1 1 2\r\n", b"\0" * 64):
        port = tls_port(site.process.ready_line)
        client = site.on(StreamTransport(socket.create_connection(("127.0.0.1", port), timeout=30)))
        client.send_bytes(start)
        assert b"AMQP" not in client.receive_octets(200)
        ends_silently(client)


def test_tls_is_not_taken_for_amqp_where_it_is_not_due(site: Site, authority: Authority) -> None:
    with (
        socket.create_connection(("127.0.0.1", site.process.port), timeout=30) as raw,
        pytest.raises(CLOSED),
    ):
        authority.trusting().wrap_socket(raw, server_hostname="localhost")
