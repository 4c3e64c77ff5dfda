"""Environment variables override the file, and flags override both."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from amqp_broker.config import Address, Config, ConfigError, load_config
from amqp_broker.config.options import options


def test_every_option_has_a_variable_of_its_own() -> None:
    variables = [option.variable for option in options().values()]
    assert "AMQP_BROKER_AUTH_DEFAULT_PERMISSIONS_READ" in variables
    assert len(set(variables)) == len(variables)


@pytest.mark.parametrize("path", options())
def test_every_option_can_be_set_by_its_variable(path: str) -> None:
    option = options()[path]
    # What TOML writes for a string, list or table differs from the text of a variable only in its marks.
    text = option.kind.toml(option.default).strip("[]{} ").replace('"', "")
    assert load_config(environ={option.variable: text}) == Config()


@pytest.mark.parametrize(
    ("variable", "text", "section", "name", "value"),
    [
        ("AMQP_BROKER_PROTOCOL_HEARTBEAT", "30s", "protocol", "heartbeat", 30),
        ("AMQP_BROKER_LISTENERS_NODELAY", "off", "listeners", "nodelay", False),
        (
            "AMQP_BROKER_LISTENERS_TCP",
            "127.0.0.1:1, [::1]:2",
            "listeners",
            "tcp",
            (Address("127.0.0.1", 1), Address("::1", 2)),
        ),
        ("AMQP_BROKER_AUTH_LOOPBACK_USERS", "", "auth", "loopback_users", ()),
        ("AMQP_BROKER_LIMITS_CONNECTION_MAX", "5", "limits", "connection_max", 5),
        (
            "AMQP_BROKER_LIMITS_MEMORY_HIGH_WATERMARK_RELATIVE",
            "0.25",
            "limits",
            "memory_high_watermark_relative",
            0.25,
        ),
        (
            "AMQP_BROKER_PROTOCOL_SERVER_PROPERTIES",
            "a=1,b=x=y",
            "protocol",
            "server_properties",
            {"a": "1", "b": "x=y"},
        ),
    ],
)
def test_a_variable_is_read_as_its_option(
    variable: str, text: str, section: str, name: str, value: object
) -> None:
    config = load_config(environ={variable: text})
    assert getattr(getattr(config, section), name) == value


def test_a_variable_overrides_the_file_and_a_flag_overrides_both(tmp_path: Path) -> None:
    file = tmp_path / "broker.toml"
    file.write_text("[log]\nlevel = 'debug'\nformat = 'json'\n[data]\ndirectory = '/srv/a'\n")
    environ = {"AMQP_BROKER_LOG_LEVEL": "warning", "AMQP_BROKER_DATA_DIRECTORY": "/srv/b"}
    config = load_config(file, environ, {"--log-level": "error", "--data-dir": None})
    assert config.log.level == "error"
    assert config.log.format == "json"
    assert config.data.directory == Path("/srv/b")


def test_the_environment_of_the_process_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AMQP_BROKER_LOG_FORMAT", "json")
    assert load_config().log.format == "json"


@pytest.mark.parametrize(
    ("environ", "message"),
    [
        (
            {"AMQP_BROKER_PROTOCOL_HEARTBEAT": "soon"},
            'environment variable AMQP_BROKER_PROTOCOL_HEARTBEAT: protocol.heartbeat = "soon": expected',
        ),
        (
            {"AMQP_BROKER_LIMITS_CONNECTION_MAX": "many"},
            'environment variable AMQP_BROKER_LIMITS_CONNECTION_MAX: limits.connection_max = "many":',
        ),
        (
            {"AMQP_BROKER_LOG_LEVLE": "info"},
            "environment variable AMQP_BROKER_LOG_LEVLE: no such option; did you mean AMQP_BROKER_LOG_LEVEL?",
        ),
        (
            {"AMQP_BROKER_AUTH_DEFAULT_PASS": ""},
            "environment variable AMQP_BROKER_AUTH_DEFAULT_PASS: auth.default_pass = ***: expected a string",
        ),
    ],
)
def test_a_variable_that_is_wrong_is_named(environ: Mapping[str, str], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(environ=environ)
    assert str(caught.value).startswith(message)


def test_variables_outside_the_sections_belong_to_somebody_else() -> None:
    environ = {"AMQP_BROKER_PORT": "tcp://10.0.0.1:5672", "AMQP_BROKER_COMPILE": "no", "HOME": "/"}
    assert load_config(environ=environ) == Config()


@pytest.mark.parametrize(
    ("flags", "addresses"),
    [
        ({"--port": "0"}, (Address("127.0.0.1", 0),)),
        ({"--bind": "0.0.0.0"}, (Address("0.0.0.0", 5672),)),
        ({"--bind": "::1", "--port": 7}, (Address("::1", 7),)),
        ({"--bind": "[::]"}, (Address("::", 5672),)),
        ({"--bind": "localhost"}, (Address("localhost", 5672),)),
    ],
)
def test_bind_and_port_replace_the_default_listener(
    flags: Mapping[str, str | int | None], addresses: tuple[Address, ...]
) -> None:
    assert load_config(environ={}, flags=flags).listeners.tcp == addresses


def test_a_port_applies_to_every_listener_and_bind_replaces_them() -> None:
    environ = {"AMQP_BROKER_LISTENERS_TCP": "10.0.0.1:1,[::1]:2"}
    assert load_config(environ=environ, flags={"--port": 9}).listeners.tcp == (
        Address("10.0.0.1", 9),
        Address("::1", 9),
    )
    assert load_config(environ=environ, flags={"--bind": "localhost"}).listeners.tcp == (
        Address("localhost", 1),
    )


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"--log-level": "loud"}, '--log-level: log.level = "loud": expected one of'),
        ({"--port": "65536"}, "--port: 65536 is not a port from 0 to 65535"),
        ({"--port": "http"}, "--port: http is not a port from 0 to 65535"),
        ({"--bind": "localhost:5672"}, '--bind: "localhost:5672" is not a host'),
        ({"--bind": "::g"}, '--bind: "::g" is not an IPv6 address'),
    ],
)
def test_a_flag_that_is_wrong_is_named(flags: Mapping[str, str | int | None], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(environ={}, flags=flags)
    assert str(caught.value).startswith(message)


def test_the_default_data_directory_depends_on_who_starts_the_broker(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr("os.geteuid", lambda: 0)
    assert Config().data.directory == Path("/var/lib/amqp-broker")
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "share"))
    assert Config().data.directory == tmp_path / "share" / "amqp-broker"
    for ignored in ("", "relative"):
        monkeypatch.setenv("XDG_DATA_HOME", ignored)
        assert Config().data.directory == tmp_path / ".local" / "share" / "amqp-broker"
