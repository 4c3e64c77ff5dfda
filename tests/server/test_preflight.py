"""`amqp-broker check-config` opens what a configuration names, and says what is wrong with it."""

from __future__ import annotations

import contextlib
import datetime
import socket
import ssl
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography import x509

from amqp_broker.cli.main import main
from amqp_broker.config import Config, Tls
from amqp_broker.server.preflight import Preflight, lifetime
from tests.server.secure import Authority, encrypt_key

Files = dict[str, Path]


class Place:
    """A configuration file and the files that it names."""

    def __init__(self, directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.directory = directory
        self.authority = Authority(directory / "tls")
        certificate, key = self.authority.server("server")
        self.files = {"certificate": certificate, "key": key, "ca": self.authority.file}
        self.file = directory / "broker.toml"
        self._capsys = capsys

    def check(self, text: str, *flags: str) -> tuple[int, list[str]]:
        """Exit status, and what is said of the file but for its name."""
        self.file.write_text(text)
        status = main(["check-config", *flags, str(self.file)])
        said = self._capsys.readouterr()
        return status, [
            line.removeprefix(f"{self.file}: ").removeprefix(f"{self.file}:")
            for line in (said.err + said.out).splitlines()
        ]

    def secure(self, **changes: Path | str) -> str:
        files = self.files | changes
        rows = "".join(f'{name} = "{file}"\n' for name, file in files.items())
        return f'[listeners]\ntcp = []\ntls = ["127.0.0.1:0"]\n[tls]\nverify = "required"\n{rows}'


@pytest.fixture
def place(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Place:
    return Place(tmp_path, capsys)


def test_good_files_and_addresses_are_ok(place: Place) -> None:
    assert place.check(place.secure()) == (0, ["ok"])
    sockets = f'[listeners]\ntcp = ["localhost:0", "127.0.0.1:0"]\nunix = ["{place.directory / "s.sock"}"]\n'
    assert place.check(sockets) == (0, ["ok"])
    assert not (place.directory / "s.sock").exists()


def missing(place: Place) -> tuple[Files, str]:
    nowhere = place.directory / "nowhere.pem"
    return {
        "certificate": nowhere
    }, f'tls.certificate = "{nowhere}": cannot be read: No such file or directory'


def a_directory(place: Place) -> tuple[Files, str]:
    return {"key": place.directory}, f'tls.key = "{place.directory}": cannot be read: Is a directory'


def no_certificate(place: Place) -> tuple[Files, str]:
    words = place.directory / "words.pem"
    words.write_text("words\n")
    return {
        "certificate": words
    }, f'tls.certificate = "{words}": there is no certificate in PEM that can be used'


def no_key(place: Place) -> tuple[Files, str]:
    certificate = place.files["certificate"]
    return {"key": certificate}, f'tls.key = "{certificate}": there is no key in PEM that can be used'


def another_key(place: Place) -> tuple[Files, str]:
    _, key = place.authority.server("other")
    return {"key": key}, f'tls.key = "{key}": it does not belong to the certificate'


def an_encrypted_key(place: Place) -> tuple[Files, str]:
    key = encrypt_key(place.files["key"], "secret")
    return {"key": key}, f'tls.key = "{key}": its key is encrypted, and tls.password is not set'


def no_authority(place: Place) -> tuple[Files, str]:
    key = place.files["key"]
    return {"ca": key}, f'tls.ca = "{key}": there is no certificate in PEM that can be used'


@pytest.mark.parametrize(
    "wrong", [missing, a_directory, no_certificate, no_key, another_key, an_encrypted_key, no_authority]
)
def test_a_file_that_cannot_be_used_is_named(
    place: Place, wrong: Callable[[Place], tuple[Files, str]]
) -> None:
    changes, problem = wrong(place)
    status, (line,) = place.check(place.secure(**changes))
    assert (status, line.startswith(problem)) == (1, True), line
    assert place.check(place.secure(**changes), "--values-only") == (0, ["ok"])


@pytest.mark.parametrize(
    ("days", "problems", "notes"),
    [
        (-3, ["a certificate in it is not valid before another 3 days"], []),
        (0.5, [], []),
        (351.5, [], ["a certificate in it expires in 13 days"]),
        (364.5, [], ["a certificate in it expires in less than a day"]),
        (366.5, ["a certificate in it has expired a day ago"], []),
    ],
)
def test_certificates_have_their_time(
    place: Place, days: float, problems: list[str], notes: list[str]
) -> None:
    now = datetime.datetime.now(datetime.UTC)
    dated = place.authority.dated(now, now + datetime.timedelta(days=365))
    config = Config(tls=Tls(certificate=str(dated[0]), key=str(dated[1])))
    preflight = Preflight(config, (now + datetime.timedelta(days=days)).timestamp() - 60)
    said = [
        [found.problem for found in kind if found.key == "tls.certificate"]
        for kind in (preflight.problems, preflight.notes)
    ]
    assert said == [problems, notes]


def test_authorities_have_theirs(place: Place) -> None:
    certificate, key = place.files["certificate"], place.files["key"]
    config = Config(
        tls=Tls(certificate=str(certificate), key=str(key), ca=str(place.files["ca"]), verify="required")
    )
    options = [problem.key for problem in Preflight(config, 40_000_000_000.0).problems]
    assert options == ["tls.certificate", "tls.ca"]


def test_lifetimes_are_read_as_others_read_them(place: Place) -> None:
    for file in place.files["certificate"], place.files["ca"]:
        found = x509.load_pem_x509_certificate(file.read_bytes())
        expected = found.not_valid_before_utc.timestamp(), found.not_valid_after_utc.timestamp()
        pem = file.read_text().partition("-----END")[0] + "-----END CERTIFICATE-----\n"
        assert lifetime(ssl.PEM_cert_to_DER_cert(pem)) == expected


@pytest.mark.parametrize(
    "octets", [b"", b"0", b"\x30\x03\x02\x01\x00", b"\x30\x84\xff\xff\xff\xff", bytes(40)]
)
def test_what_is_no_certificate_has_no_lifetime(octets: bytes) -> None:
    with pytest.raises((ValueError, IndexError)):
        lifetime(octets)


@pytest.mark.parametrize(
    ("listeners", "problem"),
    [
        (
            'tcp = ["192.0.2.1:0"]',
            'listeners.tcp = "192.0.2.1:0": cannot listen: Cannot assign requested address',
        ),
        (
            'tcp = ["no-such-host.invalid:5672"]',
            'listeners.tcp = "no-such-host.invalid:5672": cannot be looked up: ',
        ),
        (
            'tcp = []\nunix = ["/nowhere/s"]',
            'listeners.unix = "/nowhere/s": cannot listen: there is no directory "/no',
        ),
        (
            'tcp = []\nunix = ["/etc/passwd"]',
            'listeners.unix = "/etc/passwd": cannot listen: there is a file that is',
        ),
    ],
)
def test_an_address_that_cannot_be_listened_on_is_named(place: Place, listeners: str, problem: str) -> None:
    status, (line,) = place.check(f"[listeners]\n{listeners}\n")
    assert (status, line.startswith(problem)) == (1, True), line


def test_a_broker_that_runs_already_is_no_mistake(place: Place) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        address = "{}:{}".format(*taken.getsockname())
        said = place.check(f'[listeners]\ntcp = ["{address}"]\n')
        assert said == (0, [f'listeners.tcp = "{address}": somebody listens there now', "ok"])


@pytest.mark.parametrize("waiting", [0, 1])
def test_nor_is_one_on_a_unix_socket_unless_it_has_gone(place: Place, tmp_path: Path, waiting: int) -> None:
    """waiting: connections that nobody has accepted, of which there is room for one."""
    path = str(tmp_path / "s")
    text = f'[listeners]\ntcp = []\nunix = ["{path}"]\n'
    with socket.socket(socket.AF_UNIX) as taken, contextlib.ExitStack() as clients:
        taken.bind(path)
        taken.listen(0)
        for _ in range(waiting):
            clients.enter_context(socket.socket(socket.AF_UNIX)).connect(path)
        said = place.check(text)
        assert said == (0, [f'listeners.unix = "{path}": somebody listens there now', "ok"])
    assert place.check(text) == (0, ["ok"])


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("auth.example/user", ""),
        ("ftp://auth.example/user", ""),
        ("http://", ""),
        ("http://auth.example:port/", "Port could not be cast to integer value as 'port'; "),
        ("http://auth.example:0/", "its port is 0; "),
        ("http://auth.example/user?a=b", "it may hold neither a query nor a fragment nor a user; "),
        ("http://me:secret@auth.example/", "it may hold neither a query nor a fragment nor a user; "),
        (
            "http://auth.example/a b",
            "it may hold ASCII characters without spaces alone; write others as %XX; ",
        ),
        ("http://auth.example/ü", "it may hold ASCII characters without spaces alone; write others as %XX; "),
    ],
)
def test_an_address_of_the_http_backend_has_a_form(place: Place, url: str, problem: str) -> None:
    status, (line,) = place.check(f'[auth.http]\nresource_path = "{url}"\n')
    expected = 'an address that starts with "http://" or "https://", or ""'
    assert (status, line) == (1, f'2: auth.http.resource_path = "{url}": {problem}expected {expected}')


def test_a_backend_that_asks_needs_its_addresses(place: Place) -> None:
    paths = {name: f"http://127.0.0.1/{name}" for name in ("user", "vhost", "resource", "topic")}
    for backend, needed in (
        ("http", list(paths)),
        ("internal+http", list(paths)),
        ("http+internal", ["user"]),
    ):
        for missing_one in needed:
            rows = [f'{name}_path = "{paths[name]}"\n' for name in needed if name != missing_one]
            text = f'[listeners]\ntcp = ["127.0.0.1:0"]\n[auth]\nbackends = ["{backend}"]\n[auth.http]\n{"".join(rows)}'
            problem = f'5: auth.http.{missing_one}_path = "": has to be an address, as auth.backends has "{backend}"'
            assert place.check(text) == (1, [problem])
        rows = [f'{name}_path = "{paths[name]}"\n' for name in needed]
        text = f'[listeners]\ntcp = ["127.0.0.1:0"]\n[auth]\nbackends = ["{backend}"]\n[auth.http]\n{"".join(rows)}'
        assert place.check(text) == (0, ["ok"])
