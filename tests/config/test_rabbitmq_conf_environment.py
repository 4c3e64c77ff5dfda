"""The variables of RabbitMQ's container image."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from amqp_broker.config import Config, ConfigError, load_config


def message(environ: Mapping[str, str]) -> str:
    with pytest.raises(ConfigError) as caught:
        load_config(environ=environ)
    return str(caught.value)


def test_the_first_user_and_virtual_host_are_those_of_the_variables() -> None:
    environ = {
        "RABBITMQ_DEFAULT_USER": "app",
        "RABBITMQ_DEFAULT_PASS": "secret",
        "RABBITMQ_DEFAULT_VHOST": "apps",
    }
    auth = load_config(environ=environ).auth
    assert (auth.default_user, auth.default_pass, auth.default_vhost) == ("app", "secret", "apps")


@pytest.mark.parametrize("end", ["", "\n", "\r\n", "\n\n"])
def test_a_value_may_come_from_a_file(tmp_path: Path, end: str) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(f" two words{end}".encode())
    environ = {"RABBITMQ_DEFAULT_PASS_FILE": str(secret)}
    assert load_config(environ=environ).auth.default_pass == " two words"


@pytest.mark.parametrize("name", ["USER", "PASS", "VHOST"])
def test_each_of_them_has_a_form_with_a_file(tmp_path: Path, name: str) -> None:
    file = tmp_path / "value"
    file.write_text("from-a-file\n")
    auth = load_config(environ={f"RABBITMQ_DEFAULT_{name}_FILE": str(file)}).auth
    assert "from-a-file" in (auth.default_user, auth.default_pass, auth.default_vhost)


def test_variables_of_this_broker_count_before_them_and_files_after(tmp_path: Path) -> None:
    file = tmp_path / "broker.toml"
    file.write_text("[auth]\ndefault_user = 'file'\ndefault_vhost = 'file'\n")
    environ = {
        "RABBITMQ_DEFAULT_USER": "rabbit",
        "RABBITMQ_DEFAULT_PASS": "rabbit",
        "AMQP_BROKER_AUTH_DEFAULT_PASS": "own",
    }
    auth = load_config(file, environ).auth
    assert (auth.default_user, auth.default_pass, auth.default_vhost) == ("rabbit", "own", "file")


def test_empty_variables_and_others_of_rabbitmq_say_nothing() -> None:
    environ = {
        "RABBITMQ_DEFAULT_USER": "",
        "RABBITMQ_DEFAULT_PASS_FILE": "",
        "RABBITMQ_NODENAME": "rabbit@here",
        "RABBITMQ_CONFIG_FILE": "",
        "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "+P 1000",
    }
    assert load_config(environ=environ) == Config()


def test_both_forms_at_once_are_an_error() -> None:
    environ = {"RABBITMQ_DEFAULT_PASS": "x", "RABBITMQ_DEFAULT_PASS_FILE": "/run/secrets/x"}
    assert message(environ) == (
        "environment variable RABBITMQ_DEFAULT_PASS_FILE: RABBITMQ_DEFAULT_PASS is set, too; "
        "only one of them can be"
    )


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    missing = tmp_path / "missing"
    assert message({"RABBITMQ_DEFAULT_USER_FILE": str(missing)}) == (
        f"environment variable RABBITMQ_DEFAULT_USER_FILE: {missing}: cannot be read: No such file or directory"
    )
    binary = tmp_path / "binary"
    binary.write_bytes(b"\xff")
    assert message({"RABBITMQ_DEFAULT_USER_FILE": str(binary)}).endswith(f"{binary}: not UTF-8 text")


def test_what_is_not_allowed_is_refused_without_showing_the_password(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("hunter2\x01\n")
    text = message({"RABBITMQ_DEFAULT_PASS_FILE": str(secret)})
    assert text.startswith(
        "environment variable RABBITMQ_DEFAULT_PASS_FILE: auth.default_pass = ***: expected"
    )
    assert "hunter2" not in text


@pytest.mark.parametrize("suffix", ["", ".conf"])
def test_the_configuration_file_may_be_named_by_a_variable_without_its_suffix(
    tmp_path: Path, suffix: str
) -> None:
    (tmp_path / "rabbitmq.conf").write_text("heartbeat = 5\n")
    environ = {"RABBITMQ_CONFIG_FILE": f"{tmp_path}/rabbitmq{suffix}"}
    assert load_config(environ=environ).protocol.heartbeat == 5


def test_a_file_that_is_given_counts_before_the_variable(tmp_path: Path) -> None:
    given = tmp_path / "given.toml"
    given.write_text("[protocol]\nheartbeat = 9\n")
    assert load_config(given, {"RABBITMQ_CONFIG_FILE": "/no/such"}).protocol.heartbeat == 9


def test_a_file_of_erlang_terms_is_refused() -> None:
    assert message({"RABBITMQ_CONFIG_FILE": "/etc/rabbitmq/rabbitmq.config"}) == (
        "environment variable RABBITMQ_CONFIG_FILE: /etc/rabbitmq/rabbitmq.config: Erlang terms cannot be read here"
    )
