"""Whose certificate is shown, asked for and believed: client certificates, server names, renewal, and files that are
not what they should be.
"""

from __future__ import annotations

import datetime
import shutil
import signal
import ssl
from collections.abc import Iterator
from pathlib import Path

import aio_pika
import pytest

from amqp_broker.config import ConfigError, Tls
from amqp_broker.server.tls import Certificates, peer_names, server_context
from tests.server.secure import REFUSED, SERVER_NAME, Authority, SecureBroker, configured, encrypt_key
from tests.server.target import RunningBroker


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """An authority that the broker does not trust."""
    return Authority(tmp_path_factory.mktemp("stranger"))


@pytest.fixture(scope="module")
def strict(tmp_path_factory: pytest.TempPathFactory, authority: Authority) -> Iterator[SecureBroker]:
    """A broker that requires certificates of its clients."""
    tls = f'ca = "{authority.file}"\nverify = "required"'
    with SecureBroker(tmp_path_factory.mktemp("strict"), authority, tls) as broker:
        yield broker


# -- client certificates


def test_a_required_certificate_lets_in(strict: SecureBroker, authority: Authority) -> None:
    with strict.connect(authority.trusting(authority.client())) as connection:
        connection.channel().queue_declare("", exclusive=True)


@pytest.mark.anyio
async def test_a_required_certificate_lets_aio_pika_in(strict: SecureBroker, authority: Authority) -> None:
    context = authority.trusting(authority.client())
    connection = await aio_pika.connect(host=SERVER_NAME, port=strict.port, ssl=True, ssl_context=context)
    async with connection:
        channel = await connection.channel()
        await channel.declare_queue(exclusive=True)


def test_nobody_gets_in_without_the_required_certificate(strict: SecureBroker) -> None:
    with pytest.raises(REFUSED):
        strict.connect()
    strict.logs("TLS handshake failed: it showed no certificate")


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_a_strangers_certificate_does_not_let_in(
    strict: SecureBroker, authority: Authority, stranger: Authority, version: ssl.TLSVersion
) -> None:
    context = authority.trusting(stranger.client())
    context.maximum_version = version
    with pytest.raises(REFUSED):
        strict.connect(context)
    strict.logs(
        "TLS handshake failed: its certificate is not accepted: unable to get local issuer certificate"
    )


def test_an_expired_certificate_does_not_let_in(strict: SecureBroker, authority: Authority) -> None:
    yesterday = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=1)
    with pytest.raises(REFUSED):
        strict.connect(authority.trusting(authority.client("expired", not_after=yesterday)))
    strict.logs("TLS handshake failed: its certificate is not accepted: certificate has expired")


def test_an_optional_certificate_has_to_be_valid_if_it_is_shown(
    tmp_path: Path, authority: Authority, stranger: Authority
) -> None:
    tls = f'ca = "{authority.file}"\nverify = "optional"'
    with SecureBroker(tmp_path, authority, tls) as broker:
        for context in (authority.trusting(), authority.trusting(authority.client())):
            with broker.connect(context) as connection:
                assert connection.is_open
        with pytest.raises(REFUSED):
            broker.connect(authority.trusting(stranger.client()))


def test_who_is_not_asked_may_have_any_certificate(
    tmp_path: Path, authority: Authority, stranger: Authority
) -> None:
    with (
        SecureBroker(tmp_path, authority) as broker,
        broker.connect(authority.trusting(stranger.client())) as connection,
    ):
        assert connection.is_open


# -- what a certificate says of its owner


def handshake(server: ssl.SSLContext, client: ssl.SSLContext, name: str = SERVER_NAME) -> ssl.SSLObject:
    """The server's end of a handshake in memory; the client's certificate has been verified."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    client_end = client.wrap_bio(to_client, to_server, server_hostname=name)
    server_end = server.wrap_bio(to_server, to_client, server_side=True)
    pending = [client_end, server_end]
    while pending:
        end = pending.pop(0)
        try:
            end.do_handshake()
        except ssl.SSLWantReadError:
            pending.append(end)
    return server_end


def asking(authority: Authority) -> ssl.SSLContext:
    certificate, key = authority.server("asking")
    return server_context(
        Tls(certificate=str(certificate), key=str(key), ca=str(authority.file), verify="optional")
    )


def test_the_names_of_a_peer_are_written_as_rabbitmq_does(authority: Authority) -> None:
    shown = authority.trusting(authority.client("client", organization_name="server"))
    certificate = handshake(asking(authority), shown).getpeercert()
    assert peer_names(certificate) == ("client", "CN=client,OU=clients,O=server")


def test_who_shows_no_certificate_has_no_names(authority: Authority) -> None:
    assert peer_names(handshake(asking(authority), authority.trusting()).getpeercert()) == ("", "")


def test_letters_beyond_ascii_are_escaped_in_the_distinguished_name(authority: Authority) -> None:
    shown = authority.trusting(authority.client("zoë", organization_name="A, B + C"))
    certificate = handshake(asking(authority), shown).getpeercert()
    assert peer_names(certificate) == ("zoë", "CN=zo\\C3\\AB,OU=clients,O=A\\, B \\+ C")


@pytest.mark.parametrize(
    ("subject", "names"),
    [
        ((), ("", "")),
        (((("organizationName", "only"),),), ("", "O=only")),
        (
            ((("countryName", "XX"),), (("organizationName", "o"),), (("commonName", "c"),)),
            ("c", "CN=c,O=o,C=XX"),
        ),
        (((("commonName", "a"), ("userId", "7")),), ("a", "CN=a+UID=7")),
        (((("commonName", "a"),), (("commonName", "b"),)), ("a,b", "CN=b,CN=a")),
        (((("commonName", " #lead"),),), (" #lead", "CN=\\ #lead")),
        (((("commonName", "#hash"),),), ("#hash", "CN=\\#hash")),
        (((("commonName", "end "),),), ("end ", "CN=end\\ ")),
        (((("commonName", " "),),), (" ", "CN=\\ ")),
        (((("commonName", 'q"<>;\\'),),), ('q"<>;\\', 'CN=q\\"\\<\\>\\;\\\\')),
        (((("commonName", "~\n"),),), ("~\n", "CN=\\7E\\0A")),
        (((("dnQualifier", "q"),),), ("", "2.5.4.46=q")),
        (((("1.2.3.4", "x"),),), ("", "1.2.3.4=x")),
    ],
)
def test_a_distinguished_name(subject: object, names: tuple[str, str]) -> None:
    assert peer_names({"subject": subject}) == names


# -- server names


@pytest.fixture(scope="module")
def named(authority: Authority) -> ssl.SSLContext:
    certificate, key = authority.server("default")
    one = authority.server("one", "one.example")
    wild = authority.server("wild", "*.two.example")
    return server_context(
        Tls(
            certificate=str(certificate),
            key=str(key),
            sni={"one.example": (str(one[0]), str(one[1])), "*.two.example": (str(wild[0]), str(wild[1]))},
        )
    )


def shown_for(context: ssl.SSLContext, authority: Authority, name: str) -> tuple[str, ...]:
    """The names in the certificate that a server shows to a client that asks for a name."""
    client = authority.trusting()
    client.check_hostname = False
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    client_end = client.wrap_bio(to_client, to_server, server_hostname=name)
    server_end = context.wrap_bio(to_server, to_client, server_side=True)
    with pytest.raises(ssl.SSLWantReadError):
        client_end.do_handshake()
    with pytest.raises(ssl.SSLWantReadError):
        server_end.do_handshake()
    client_end.do_handshake()
    certificate = client_end.getpeercert()
    assert certificate is not None
    return tuple(str(value) for _, value in certificate["subjectAltName"])


@pytest.mark.parametrize(
    ("name", "certified"),
    [
        ("one.example", "one.example"),
        ("ONE.example", "one.example"),
        ("a.two.example", "*.two.example"),
        ("a.b.two.example", SERVER_NAME),
        ("two.example", SERVER_NAME),
        ("unknown.example", SERVER_NAME),
        (SERVER_NAME, SERVER_NAME),
        ("127.0.0.1", SERVER_NAME),
    ],
)
def test_the_certificate_is_that_for_the_name_asked_for(
    named: ssl.SSLContext, authority: Authority, name: str, certified: str
) -> None:
    assert shown_for(named, authority, name)[0] == certified


def test_clients_are_asked_for_their_certificates_under_every_name(authority: Authority) -> None:
    (certificate, key), other = authority.server("asking"), authority.server("one", "one.example")
    server = server_context(
        Tls(
            certificate=str(certificate),
            key=str(key),
            sni={"one.example": (str(other[0]), str(other[1]))},
            ca=str(authority.file),
            verify="required",
        )
    )
    for name in ("one.example", SERVER_NAME):
        with pytest.raises(ssl.SSLError, match="PEER_DID_NOT_RETURN_A_CERTIFICATE"):
            handshake(server, authority.trusting(), name)
        known = handshake(server, authority.trusting(authority.client()), name)
        assert peer_names(known.getpeercert())[0] == "client"


def test_a_running_broker_goes_by_the_name_asked_for(tmp_path: Path, authority: Authority) -> None:
    certificate, key = authority.server("other", "other.example")
    sni = f'[tls.sni]\n"other.example" = ["{certificate}", "{key}"]'
    with (
        SecureBroker(tmp_path, authority, sni) as broker,
        broker.wrapped(name="other.example") as other,
        broker.wrapped() as default,
    ):
        assert other.getpeercert() != default.getpeercert()


# -- renewal


@pytest.fixture
def renewable(tmp_path: Path, authority: Authority) -> Iterator[SecureBroker]:
    """A broker whose certificate is in a place where nobody else's is."""
    own = Authority(tmp_path / "files")
    with SecureBroker(tmp_path / "broker", own) as broker:
        yield broker


def certificate_shown(broker: SecureBroker) -> bytes:
    with broker.wrapped() as wrapped:
        shown = wrapped.getpeercert(binary_form=True)
        assert shown is not None
        return shown


def test_a_new_certificate_is_shown_after_sighup_and_nobody_is_disconnected(renewable: SecureBroker) -> None:
    before = certificate_shown(renewable)
    with renewable.connect() as living:
        channel = living.channel()
        queue = channel.queue_declare("", exclusive=True).method.queue
        renewable.authority.server()
        assert certificate_shown(renewable) == before
        renewable.process.send_signal(signal.SIGHUP)
        renewable.logs("loaded the certificates again")
        assert certificate_shown(renewable) != before
        channel.basic_publish("", queue, b"still here")
        assert channel.basic_get(queue, auto_ack=True)[2] == b"still here"


@pytest.mark.parametrize("broken", ["", "nonsense", None])
def test_a_bad_certificate_is_refused_and_the_old_one_stays(
    renewable: SecureBroker, broken: str | None
) -> None:
    before = certificate_shown(renewable)
    file = renewable.authority.directory / "server.pem"
    if broken is None:
        file.unlink()
    else:
        file.write_text(broken)
    renewable.process.send_signal(signal.SIGHUP)
    renewable.logs(f"certificates were not loaded again, and the earlier ones are kept: .*{file}")
    assert certificate_shown(renewable) == before
    with renewable.connect() as connection:
        assert connection.is_open


def test_a_certificate_without_its_key_is_refused_until_both_are_there(renewable: SecureBroker) -> None:
    before = certificate_shown(renewable)
    directory = renewable.authority.directory
    new, new_key = renewable.authority.server("new")
    shutil.copy(new, directory / "server.pem")
    renewable.process.send_signal(signal.SIGHUP)
    renewable.logs("it does not belong to the certificate")
    assert certificate_shown(renewable) == before
    shutil.copy(new_key, directory / "server.key")
    renewable.process.send_signal(signal.SIGHUP)
    renewable.logs("loaded the certificates again")
    assert certificate_shown(renewable) != before


def test_a_reload_makes_a_context_of_its_own(authority: Authority) -> None:
    certificate, key = authority.server("reloaded")
    certificates = Certificates(Tls(certificate=str(certificate), key=str(key)))
    first = certificates.context
    certificates.reload()
    assert certificates.context is not first


# -- files that are not what they should be


class Files:
    """A good certificate and a good key, and what else there may be in their place."""

    def __init__(self, directory: Path) -> None:
        self.authority = Authority(directory)
        self.certificate, self.key = self.authority.server()
        self.other = self.authority.server("another")[1]
        self.encrypted = encrypt_key(self.key, "secret")
        self.missing = directory / "missing.pem"
        self.directory = directory
        self.text = directory / "text.pem"
        self.text.write_text("nothing of that kind\n")
        self.both = directory / "both.pem"
        self.both.write_bytes(self.key.read_bytes() + self.certificate.read_bytes())

    def tls(self, **options: object) -> Tls:
        settings = {"certificate": self.certificate, "key": self.key} | options
        return Tls(
            **{name: str(value) if isinstance(value, Path) else value for name, value in settings.items()}
        )  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Files:
    return Files(tmp_path_factory.mktemp("files"))


@pytest.mark.parametrize(
    ("options", "named", "problem"),
    [
        ({"certificate": "missing"}, "tls.certificate", "cannot be read: No such file or directory"),
        ({"certificate": "directory"}, "tls.certificate", "cannot be read: Is a directory"),
        ({"certificate": "text"}, "tls.certificate", "there is no certificate in PEM that can be used"),
        ({"certificate": "key"}, "tls.certificate", "there is no certificate in PEM that can be used"),
        ({"key": "missing"}, "tls.key", "cannot be read: No such file or directory"),
        ({"key": "text"}, "tls.key", "there is no key in PEM that can be used"),
        ({"key": "certificate"}, "tls.key", "there is no key in PEM that can be used"),
        ({"key": "other"}, "tls.key", "it does not belong to the certificate"),
        ({"key": "encrypted"}, "tls.key", "its key is encrypted, and tls.password is not set"),
        ({"key": "encrypted", "password": "wrong"}, "tls.key", "tls.password does not open it"),
        ({"ca": "missing", "verify": "optional"}, "tls.ca", "cannot be read: No such file or directory"),
        ({"ca": "text", "verify": "required"}, "tls.ca", "there is no certificate in PEM that can be used"),
        ({"ca": "key", "verify": "required"}, "tls.ca", "there is no certificate in PEM that can be used"),
        ({"ciphers": "none-such"}, "tls.ciphers", "OpenSSL knows none of them"),
    ],
)
def test_a_file_that_cannot_be_used_is_named(
    files: Files, options: dict[str, str], named: str, problem: str
) -> None:
    given = {name: getattr(files, value, value) for name, value in options.items()}
    with pytest.raises(ConfigError) as caught:
        server_context(files.tls(**given))
    assert caught.value.key == named
    assert str(given[named.removeprefix("tls.")]) in caught.value.value
    assert caught.value.problem.startswith(problem)
    assert "secret" not in str(caught.value)


def test_a_certificate_for_a_name_is_named_by_it(files: Files) -> None:
    with pytest.raises(ConfigError) as caught:
        server_context(files.tls(sni={"a.example": (str(files.missing), "")}))
    assert caught.value.key == 'tls.sni."a.example"'
    assert str(files.missing) in caught.value.value


def test_an_encrypted_key_opens_with_its_password(files: Files) -> None:
    server_context(files.tls(key=files.encrypted, password="secret"))


def test_certificate_and_key_may_be_one_file(files: Files) -> None:
    server_context(files.tls(certificate=files.both, key=""))


def test_a_start_with_a_file_that_is_missing_is_one_line(tmp_path: Path) -> None:
    broker = configured(
        tmp_path, f'[listeners]\ntls = ["127.0.0.1:0"]\n[tls]\ncertificate = "{tmp_path}/none.pem"\n'
    )
    broker.launch()
    assert broker.wait_ended() == 1
    assert broker.stderr().splitlines()[-1] == (
        f'amqp-broker: error: configuration: tls.certificate = "{tmp_path}/none.pem": '
        "cannot be read: No such file or directory"
    )
    assert "Traceback" not in broker.stderr()


def test_certificates_are_not_wanted_where_nobody_listens_with_tls(tmp_path: Path) -> None:
    broker = configured(tmp_path, f'[tls]\ncertificate = "{tmp_path}/none.pem"\n').start()
    try:
        broker.send_signal(signal.SIGHUP)
        with RunningBroker(broker.port).connect() as connection:
            assert connection.is_open
    finally:
        broker.kill()
