"""`amqp-broker convert-config`: the TOML means what the rabbitmq.conf means. And what other commands do with one."""

from __future__ import annotations

from pathlib import Path

import pytest

from amqp_broker.cli.main import main
from amqp_broker.config import Config, load_config

CONFS = {
    "empty": "",
    "one": "heartbeat = 30\n",
    "log": 'log.file = /var/log/b "x".log\nlog.file.level = debug\nlog.file.formatter = json\n',
    "auth": "default_user = ü\ndefault_pass = 'a#\"\\b'\ndefault_permissions.write = ^(?!amq\\.).*$\n"
    "loopback_users = none\ndefault_user_tags.monitoring = true\ndefault_vhost = a/b\n",
    "tls": "listeners.tcp = none\nlisteners.ssl.default = 5671\nssl_options.certfile = /c.pem\n"
    "ssl_options.keyfile = /k.pem\nssl_options.cacertfile = /ca.pem\nssl_options.verify = verify_peer\n"
    "ssl_options.fail_if_no_peer_cert = true\nssl_options.versions.1 = tlsv1.3\nauth_mechanisms.1 = EXTERNAL\n",
    "limits": "vm_memory_high_watermark.relative = 0.123456789\ndisk_free_limit.absolute = 1234567891\n"
    "consumer_timeout = 1234567\nhandshake_timeout = 1001\nframe_max = 0\nconnection_max = 12\n",
    "http": "auth_backends.1 = cache\nauth_backends.2 = internal\nauth_cache.cached_backend = http\n"
    "auth_cache.cache_ttl = 2500\nauth_cache.cache_refusals = true\nauth_http.http_method = post\n"
    + "".join(
        f"auth_http.{name}_path = https://h:8/{name}\n" for name in ("user", "vhost", "resource", "topic")
    ),
    "http without a cache": "auth_backends.1.authn = http\nauth_backends.1.authz = internal\n"
    "auth_http.user_path = http://h/u\n",
    "passed over": "cluster_partition_handling = autoheal\nlisteners.tcp.1 = ::1:5673\nnet_ticktime = 60\n",
}


@pytest.fixture
def conf(tmp_path: Path) -> Path:
    return tmp_path / "rabbitmq.conf"


@pytest.mark.parametrize("text", CONFS.values(), ids=CONFS)
def test_the_toml_loads_to_the_same_configuration(
    conf: Path, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    conf.write_text(text)
    assert main(["convert-config", str(conf)]) == 0
    toml = conf.with_suffix(".toml")
    toml.write_text(capsys.readouterr().out)
    assert load_config(toml, {}) == load_config(conf, {})
    assert (load_config(toml, {}) == Config()) is False


def test_only_what_is_not_as_by_default_is_printed_with_what_was_passed_over(
    conf: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    conf.write_text(
        "heartbeat = 60\nframe_max = 64KB\nlisteners.tcp.1 = 127.0.0.1:5672\nnet_ticktime = 60\n"
        "default_permissions.read = ^q\n"
    )
    assert main(["convert-config", str(conf)]) == 0
    assert capsys.readouterr().out.splitlines() == [
        f"# Made from {conf} by amqp-broker convert-config. What is not here is as by default.",
        "",
        "[auth.default_permissions]",
        'read = "^q"',
        "",
        "[protocol]",
        'frame_max = "64KiB"',
        "",
        "# What has no effect, or less than with RabbitMQ:",
        f"# {conf}:4: net_ticktime: no effect: this broker is one node",
    ]


def test_what_overrides_a_file_does_not_get_into_the_toml(
    conf: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RABBITMQ_DEFAULT_PASS", "from-a-variable")
    monkeypatch.setenv("AMQP_BROKER_LOG_LEVEL", "debug")
    monkeypatch.setenv("NAME", "referred-to")
    conf.write_text("default_user = $(NAME)\n")
    assert main(["convert-config", str(conf)]) == 0
    out = capsys.readouterr().out
    assert 'default_user = "referred-to"' in out
    assert "from-a-variable" not in out
    assert "debug" not in out


def test_every_problem_is_a_line_and_nothing_is_printed(
    conf: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    conf.write_text("heartbeat = x\nhartbeat = 5\n")
    assert main(["convert-config", str(conf)]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.splitlines() == [
        f"{conf}:1: heartbeat = x: expected a whole number of seconds",
        f"{conf}:2: hartbeat: unknown key; did you mean heartbeat?",
    ]


def test_a_file_that_is_toml_already_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    toml = tmp_path / "broker.toml"
    toml.touch()
    assert main(["convert-config", str(toml)]) == 1
    assert "whose name ends in .conf" in capsys.readouterr().err


def test_check_config_names_what_has_no_effect(conf: Path, capsys: pytest.CaptureFixture[str]) -> None:
    conf.write_text("net_ticktime = 60\n")
    assert main(["check-config", "--values-only", str(conf)]) == 0
    assert capsys.readouterr().out.splitlines() == [
        f"{conf}:1: net_ticktime: no effect: this broker is one node",
        f"{conf}: ok",
    ]
