"""The sections `listeners` and `tls`: certificates by name, and what does not go together."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from amqp_broker.config import Address, ConfigError, load_config
from amqp_broker.config.load import check_file
from amqp_broker.config.tls import NamedCertificates

WriteFile = Callable[[str], Path]

SECURE = '[listeners]\ntls = ["0.0.0.0:5671"]\n[tls]\ncertificate = "broker.pem"\n'


@pytest.fixture
def write_file(tmp_path: Path) -> WriteFile:
    def write(text: str) -> Path:
        path = tmp_path / "broker.toml"
        path.write_text(text, "utf-8")
        return path

    return write


def problems(path: Path) -> list[tuple[str, str]]:
    return [(problem.key, problem.problem) for problem in check_file(path)]


def test_a_file_with_tls(write_file: WriteFile) -> None:
    config = load_config(write_file(SECURE + 'ca = "ca.pem"\nverify = "required"\n'), environ={})
    assert config.listeners.tls == (Address("0.0.0.0", 5671),)
    assert (config.tls.certificate, config.tls.key, config.tls.min_version) == ("broker.pem", "", "TLSv1.2")


@pytest.mark.parametrize(
    ("written", "found"),
    [
        ('"a.example" = "a.pem"', {"a.example": ("a.pem", "")}),
        ('"A.Example" = ["a.pem"]', {"a.example": ("a.pem", "")}),
        (
            '"*.b.example" = ["b.pem", "b.key"]\nlocalhost = "l.pem"',
            {"*.b.example": ("b.pem", "b.key"), "localhost": ("l.pem", "")},
        ),
    ],
)
def test_certificates_by_server_name(
    write_file: WriteFile, written: str, found: dict[str, tuple[str, str]]
) -> None:
    config = load_config(write_file(f"{SECURE}[tls.sni]\n{written}\n"), environ={})
    assert config.tls.sni == found


def test_certificates_by_server_name_come_back_from_what_is_written() -> None:
    kind = NamedCertificates()
    value = kind.parse_text("a.example=a.pem;a.key, *.b.example=b.pem")
    assert value == {"a.example": ("a.pem", "a.key"), "*.b.example": ("b.pem", "")}
    assert kind.toml(value) == '{ "a.example" = ["a.pem", "a.key"], "*.b.example" = ["b.pem"] }'


@pytest.mark.parametrize(
    ("written", "problem"),
    [
        ('sni = "a.pem"', "expected a table of server names"),
        ('sni = { "a b" = "a.pem" }', '"a b" is not a host name'),
        ('sni = { "*" = "a.pem" }', '"*" is not a host name'),
        ('sni = { "a.*.b" = "a.pem" }', '"a.*.b" is not a host name'),
        ('sni = { "a" = "a.pem", "A" = "b.pem" }', '"A" stands there twice'),
        ('sni = { "a" = [] }', "expected a table of server names"),
        ('sni = { "a" = ["a", "b", "c"] }', "expected a table of server names"),
        ('sni = { "a" = "" }', "expected a table of server names"),
        ('sni = { "a" = 7 }', "expected a table of server names"),
        ('verify = "yes"', 'expected one of "none", "optional", "required"'),
        ('min_version = "TLSv1.1"', 'expected one of "TLSv1.2", "TLSv1.3"'),
        ('ciphers = ""', "expected a list of OpenSSL cipher names"),
    ],
)
def test_what_is_not_allowed(write_file: WriteFile, written: str, problem: str) -> None:
    ((key, said),) = problems(write_file(SECURE + written + "\n"))
    assert key == "tls." + written.partition(" ")[0]
    assert said.startswith(problem)


def test_a_variable_has_to_name_each_certificate() -> None:
    with pytest.raises(ConfigError, match="write name=certificate;key"):
        load_config(environ={"AMQP_BROKER_TLS_SNI": "a.pem"})


@pytest.mark.parametrize(
    ("text", "key", "problem"),
    [
        ("[listeners]\ntcp = []\n", "listeners.tcp", "nobody could connect"),
        ('[listeners]\ntls = ["localhost:5671"]\n', "tls.certificate", "has to be a file, as listeners.tls"),
        (SECURE + 'verify = "optional"\n', "tls.ca", 'has to be a file, as tls.verify is "optional"'),
        (
            '[listeners]\ntcp = ["[::]:1"]\ntls = ["[::]:1"]\n[tls]\ncertificate = "c"\n',
            "listeners.tls",
            "stands in listeners.tcp, too",
        ),
        ('[listeners]\nunix = ["/a", "/a"]\n', "listeners.unix", "twice"),
        ('[listeners]\nunix = [""]\n', "listeners.unix", "a list of distinct paths"),
        (f'[listeners]\nunix = ["/{"a" * 100}"]\n', "listeners.unix", "longer than 100 bytes"),
    ],
)
def test_what_does_not_go_together(write_file: WriteFile, text: str, key: str, problem: str) -> None:
    ((named, said),) = problems(write_file(text))
    assert named == key
    assert problem in said


@pytest.mark.parametrize(
    "text", ['[listeners]\ntcp = []\nunix = ["/run/amqp.sock"]\n', SECURE.replace("tls =", "tcp = []\ntls =")]
)
def test_one_kind_of_listener_is_enough(write_file: WriteFile, text: str) -> None:
    assert problems(write_file(text)) == []


def test_the_password_of_the_key_is_not_shown(write_file: WriteFile) -> None:
    (problem,) = check_file(write_file(SECURE + 'password = "se\\u0000cret"\n'))
    assert problem.key == "tls.password"
    assert "cret" not in str(problem)


def test_flags_go_with_a_list_that_is_empty() -> None:
    environ = {"AMQP_BROKER_LISTENERS_TCP": "", "AMQP_BROKER_LISTENERS_UNIX": "/run/amqp.sock"}
    assert load_config(environ=environ).listeners.tcp == ()
    assert load_config(environ=environ, flags={"--bind": "::1"}).listeners.tcp == (Address("::1", 5672),)
    with pytest.raises(ConfigError, match="--port: listeners.tcp is empty"):
        load_config(environ=environ, flags={"--port": 7})


@pytest.mark.parametrize(
    ("foreign", "ours"),
    [
        ("listeners.ssl.default = 5671", "listeners.tls"),
        ("ssl_options.cacertfile = 'ca.pem'", "tls.ca"),
        ("ssl_options.certfile = 'c.pem'", "tls.certificate"),
        ("ssl_options.keyfile = 'k.pem'", "tls.key"),
        ("ssl_options.verify = 'verify_peer'", "tls.verify"),
        ("ssl_options.password = 'p'", "tls.password"),
        ("proxy_protocol = true", "listeners.proxy_protocol"),
    ],
)
def test_who_comes_from_rabbitmq_is_told_the_name(write_file: WriteFile, foreign: str, ours: str) -> None:
    (problem,) = check_file(write_file(foreign + "\n"))
    assert problem.suggestion == ours
