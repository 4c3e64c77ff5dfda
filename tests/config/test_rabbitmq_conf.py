"""What the keys of a rabbitmq.conf make of the configuration, and what is said about those that make nothing."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from amqp_broker.config import Address, Config, ConfigError, load_config
from amqp_broker.config.load import check_file, load_file
from amqp_broker.config.memory import machine_memory
from amqp_broker.config.options import options
from amqp_broker.config.rabbitmq_conf_keys import BY_RULE, KEYS, REFUSED, SETTING, Key, find_key, nearest_key
from amqp_broker.config.rabbitmq_conf_rules import everywhere
from tests.examples import examples

TLS = "listeners.ssl.default = 5671\nssl_options.certfile = c.pem\nssl_options.keyfile = k.pem\n"


class Conf:
    """Writes a rabbitmq.conf and loads it."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / "rabbitmq.conf"
        self.notes: list[str] = []

    def load(self, text: str, environ: Mapping[str, str] | None = None) -> Config:
        self.path.write_text(text, "utf-8")
        self.notes.clear()
        return load_config(self.path, environ or {}, notes=self.notes)

    def refused(self, text: str) -> list[str]:
        """Everything that is wrong with it, each from its line on."""
        self.path.write_text(text, "utf-8")
        problems = check_file(self.path)
        assert problems, text
        return [str(problem).removeprefix(f"{self.path}:") for problem in problems]

    def passed_over(self) -> list[str]:
        return [note.removeprefix(f"{self.path}:") for note in self.notes]


@pytest.fixture
def conf(tmp_path: Path) -> Conf:
    return Conf(tmp_path)


def option(config: Config, path: str) -> object:
    value: object = config
    for name in path.split("."):
        value = getattr(value, name)
    return value


@pytest.mark.parametrize(
    ("line", "path", "value"),
    [
        ("heartbeat = 30", "protocol.heartbeat", 30),
        ("heartbeat = 0", "protocol.heartbeat", 0),
        ("frame_max = 64KB", "protocol.frame_max", 65536),
        ("frame_max = 1mb", "protocol.frame_max", 2**20),
        ("frame_max = 8192", "protocol.frame_max", 8192),
        ("frame_max = 0", "protocol.frame_max", 128 * 2**20),
        ("channel_max = 100", "protocol.channel_max", 100),
        ("channel_max = 0", "protocol.channel_max", 65535),
        ("max_message_size = 1000000", "protocol.max_message_size", 1_000_000),
        ("handshake_timeout = 2500", "protocol.handshake_timeout", 2.5),
        ("cluster_name = red@green", "protocol.cluster_name", "red@green"),
        ("product.name = Mine", "protocol.product", "Mine"),
        ("product.version = 4.1.0", "protocol.version", "4.1.0"),
        ("connection_max = 77", "limits.connection_max", 77),
        ("connection_max = infinity", "limits.connection_max", 0),
        ("channel_max_per_node = 500", "limits.channel_max_per_node", 500),
        ("cluster_queue_limit = 600", "limits.queue_max", 600),
        ("consumer_max_per_channel = 9", "limits.consumer_max_per_channel", 9),
        ("consumer_timeout = 90500", "limits.consumer_timeout", 90.5),
        ("vm_memory_high_watermark.relative = 0.6", "limits.memory_high_watermark_relative", 0.6),
        ("vm_memory_high_watermark.absolute = 2GB", "limits.memory_high_watermark_absolute", 2_000_000_000),
        ("vm_memory_high_watermark.absolute = 2GiB", "limits.memory_high_watermark_absolute", 2 * 2**30),
        ("vm_memory_high_watermark.absolute = 512M", "limits.memory_high_watermark_absolute", 512 * 2**20),
        ("vm_memory_high_watermark.absolute = 1000", "limits.memory_high_watermark_absolute", 1000),
        ("total_memory_available_override_value = 10GB", "limits.memory_high_watermark_absolute", 4 * 10**9),
        ("disk_free_limit.absolute = 50MB", "limits.disk_free_limit", 50_000_000),
        ("disk_free_limit.absolute = 1G", "limits.disk_free_limit", 2**30),
        ("default_user = app", "auth.default_user", "app"),
        ("default_pass = 'a#b'", "auth.default_pass", "a#b"),
        ("default_vhost = apps", "auth.default_vhost", "apps"),
        ("default_permissions.configure = ''", "auth.default_permissions.configure", ""),
        ("default_permissions.write = ^app", "auth.default_permissions.write", "^app"),
        ("default_permissions.read = .*", "auth.default_permissions.read", ".*"),
        ("default_user_tags.monitoring = true", "auth.default_user_tags", ("monitoring",)),
        ("default_user_tags.administrator = false", "auth.default_user_tags", ()),
        ("loopback_users = none", "auth.loopback_users", ()),
        ("loopback_users.guest = false", "auth.loopback_users", ()),
        ("loopback_users.admin = true", "auth.loopback_users", ("admin",)),
        ("listeners.tcp.1 = 127.0.0.1:5673", "listeners.tcp", (Address("127.0.0.1", 5673),)),
        ("listeners.tcp.1 = ::1:5673", "listeners.tcp", (Address("::1", 5673),)),
        ("listeners.tcp.1 = [::1]:5673", "listeners.tcp", (Address("::1", 5673),)),
        ("listeners.tcp.mine = localhost:5673", "listeners.tcp", (Address("localhost", 5673),)),
        ("tcp_listen_options.backlog = 128", "listeners.backlog", 128),
        ("tcp_listen_options.nodelay = false", "listeners.nodelay", False),
        ("proxy_protocol = true", "listeners.proxy_protocol", True),
        ("auth_mechanisms.1 = AMQPLAIN", "auth.mechanisms", ("AMQPLAIN",)),
        ("auth_backends.1 = internal", "auth.backends", ("internal",)),
        ("ssl_cert_login_from = common_name", "auth.external_name", "common_name"),
        ("ssl_options.password = p", "tls.password", "p"),
        ("load_definitions = /etc/d.json", "data.load_definitions", "/etc/d.json"),
        ("definitions.local.path = /etc/d.json", "data.load_definitions", "/etc/d.json"),
        ("management.load_definitions = /etc/d.json", "data.load_definitions", "/etc/d.json"),
        ("log.console.level = warning", "log.level", "warning"),
        ("log.default.level = debug", "log.level", "debug"),
        ("log.console.level = notice", "log.level", "info"),
        ("log.console.level = critical", "log.level", "error"),
        ("log.console.formatter = json", "log.format", "json"),
        ("log.file = /var/log/broker.log", "log.file", "/var/log/broker.log"),
        ("log.file = false", "log.file", ""),
        ("auth_http.http_method = post", "auth.http.method", "post"),
        ("auth_http.user_path = http://localhost/user", "auth.http.user_path", "http://localhost/user"),
        ("auth_http.topic_path = https://[::1]:8/a", "auth.http.topic_path", "https://[::1]:8/a"),
        ("auth_http.request_timeout = 1500", "auth.http.timeout", 1.5),
        ("auth_http.topic_path = HTTPS://h/a", "auth.http.topic_path", "https://h/a"),
        ("auth_http.ssl_options.cacertfile = /etc/ca.pem", "auth.http.tls.ca", "/etc/ca.pem"),
        ("auth_http.ssl_options.certfile = /etc/b.pem", "auth.http.tls.certificate", "/etc/b.pem"),
        ("auth_http.ssl_options.password = secret", "auth.http.tls.password", "secret"),
        ("auth_http.ssl_options.verify = verify_none", "auth.http.tls.verify", "none"),
        ("auth_http.ssl_options.verify = verify_peer", "auth.http.tls.verify", "required"),
        ("auth_http.ssl_options.sni = auth.example", "auth.http.tls.server_name", "auth.example"),
        ("auth_http.ssl_options.sni = none", "auth.http.tls.server_name", ""),
        ("auth_http.ssl_options.versions.1 = tlsv1.3", "auth.http.tls.min_version", "TLSv1.3"),
    ],
)
def test_a_key_sets_its_option_and_nothing_else(conf: Conf, line: str, path: str, value: object) -> None:
    config, without = conf.load(f"# one line\n{line}\n"), conf.load("# none\n")
    assert option(config, path) == value
    for other in options():
        if other != path:
            assert option(config, other) == option(without, other)


def test_every_key_that_sets_an_option_names_one_that_there_is() -> None:
    named = {key.option for key in (*SETTING, *BY_RULE) if key.option}
    assert named <= set(options())


@pytest.mark.parametrize("key", BY_RULE, ids=[key.pattern for key in BY_RULE])
def test_every_key_that_is_left_to_a_rule_is_looked_at_by_one(conf: Conf, key: Key) -> None:
    conf.path.write_text(f"{key.pattern.replace('$name', '1')} = nonsense\n")
    notes: list[str] = []
    config, problems = load_file(conf.path, notes)
    assert problems or notes or config != conf.load("")


def test_no_key_stands_in_the_table_twice() -> None:
    patterns = [key.pattern for key in KEYS]
    assert sorted(patterns) == sorted(set(patterns))


def test_without_listeners_every_address_is_listened_on_as_rabbitmq_does(conf: Conf) -> None:
    assert [str(address) for address in conf.load("").listeners.tcp] == everywhere(5672)
    assert [str(address) for address in conf.load("listeners.tcp.default = 7\n").listeners.tcp] == everywhere(
        7
    )
    assert everywhere(7)[0] == "0.0.0.0:7"


def test_an_empty_file_is_the_defaults_but_for_where_it_listens(conf: Conf) -> None:
    config, default = conf.load(""), Config()
    assert [path for path in options() if option(config, path) != option(default, path)] == ["listeners.tcp"]


def test_several_listeners_keep_the_order_of_their_numbers(conf: Conf) -> None:
    text = "listeners.tcp.10 = 10.0.0.1:3\nlisteners.tcp.2 = 10.0.0.1:2\nlisteners.tcp.1 = 10.0.0.1:1\n"
    assert [address.port for address in conf.load(text).listeners.tcp] == [1, 2, 3]


def test_tls_alone(conf: Conf) -> None:
    config = conf.load("listeners.tcp = none\n" + TLS)
    assert config.listeners.tcp == ()
    assert [str(address) for address in config.listeners.tls] == everywhere(5671)
    assert (config.tls.certificate, config.tls.key, config.tls.verify) == ("c.pem", "k.pem", "none")


@pytest.mark.parametrize(
    ("lines", "verify"),
    [
        ("ssl_options.verify = verify_none\n", "none"),
        ("ssl_options.verify = verify_peer\n", "optional"),
        ("ssl_options.verify = verify_peer\nssl_options.fail_if_no_peer_cert = false\n", "optional"),
        ("ssl_options.verify = verify_peer\nssl_options.fail_if_no_peer_cert = true\n", "required"),
        ("ssl_options.verify = verify_none\nssl_options.fail_if_no_peer_cert = false\n", "none"),
    ],
)
def test_two_keys_say_whether_a_client_needs_a_certificate(conf: Conf, lines: str, verify: str) -> None:
    assert conf.load(TLS + "ssl_options.cacertfile = ca.pem\n" + lines).tls.verify == verify


@pytest.mark.parametrize(
    ("versions", "oldest", "noted"),
    [
        (["tlsv1.3"], "TLSv1.3", 0),
        (["tlsv1.3", "tlsv1.2"], "TLSv1.2", 0),
        (["tlsv1.2"], "TLSv1.2", 1),
        (["tlsv1.3", "tlsv1.2", "tlsv1.1", "tlsv1"], "TLSv1.2", 2),
    ],
)
def test_the_oldest_version_of_tls_counts(conf: Conf, versions: list[str], oldest: str, noted: int) -> None:
    lines = [f"ssl_options.versions.{number} = {version}\n" for number, version in enumerate(versions)]
    assert conf.load(TLS + "".join(lines)).tls.min_version == oldest
    assert len(conf.notes) == noted


def test_ciphers_are_joined_in_the_order_of_their_numbers(conf: Conf) -> None:
    text = "ssl_options.ciphers.2 = ECDHE-RSA-AES128-GCM-SHA256\nssl_options.ciphers.1 = ECDHE-RSA-AES256-GCM-SHA384\n"
    assert conf.load(TLS + text).tls.ciphers == "ECDHE-RSA-AES256-GCM-SHA384:ECDHE-RSA-AES128-GCM-SHA256"


def test_the_ciphers_for_the_service_are_its_own(conf: Conf) -> None:
    text = "auth_http.ssl_options.ciphers.2 = B\nauth_http.ssl_options.ciphers.1 = A\n"
    config = conf.load(text)
    assert (config.auth.http.tls.ciphers, config.tls) == ("A:B", conf.load("").tls)


def test_a_service_is_checked_unless_that_is_switched_off(conf: Conf) -> None:
    assert conf.load("auth_http.ssl_options.cacertfile = /ca.pem\n").auth.http.tls.verify == "required"


def test_external_goes_by_the_distinguished_name_unless_something_else_is_said(conf: Conf) -> None:
    external = "auth_mechanisms.1 = EXTERNAL\nauth_mechanisms.2 = PLAIN\n"
    config = conf.load(external)
    assert config.auth.mechanisms == ("EXTERNAL", "PLAIN")
    assert config.auth.external_name == "distinguished_name"
    assert conf.load(external + "ssl_cert_login_from = common_name\n").auth.external_name == "common_name"


PATHS = "".join(
    f"auth_http.{name}_path = http://localhost:8000/auth/{name}\n"
    for name in ("user", "vhost", "resource", "topic")
)


@pytest.mark.parametrize(
    ("lines", "backends"),
    [
        ("auth_backends.1 = http", ["http"]),
        ("auth_backends.1 = rabbit_auth_backend_http", ["http"]),
        ("auth_backends.1.authn = http", ["http"]),
        ("auth_backends.1.authz = http", ["http"]),
        ("auth_backends.1.authn = http\nauth_backends.1.authz = internal", ["http+internal"]),
        ("auth_backends.1.authn = internal\nauth_backends.1.authz = http", ["internal+http"]),
        ("auth_backends.2 = http\nauth_backends.1 = internal", ["internal", "http"]),
        (
            "auth_backends.1 = http\nauth_backends.2.authz = http\nauth_backends.3 = internal",
            ["http", "internal"],
        ),
        ("auth_backends.1 = cache", ["internal"]),
        ("auth_backends.1 = cache\nauth_cache.cached_backend = http", ["http"]),
        (
            "auth_backends.1 = cache\n"
            "auth_cache.cached_backend.authn = http\nauth_cache.cached_backend.authz = internal",
            ["http+internal"],
        ),
    ],
)
def test_who_is_asked(conf: Conf, lines: str, backends: list[str]) -> None:
    assert conf.load(f"{PATHS}{lines}\n").auth.backends == tuple(backends)


def test_logins_over_http_take_one_address_alone(conf: Conf) -> None:
    text = (
        "auth_backends.1 = internal\nauth_backends.2.authn = http\nauth_backends.2.authz = internal\n"
        "auth_http.user_path = http://localhost:8000/auth/user\n"
    )
    assert conf.load(text).auth.backends == ("internal", "http+internal")


def test_answers_are_kept_as_long_as_the_cache_says(conf: Conf) -> None:
    http = conf.load(f"{PATHS}auth_backends.1 = http\n").auth.http
    assert (http.cache, http.cache_rights, http.cache_refusals) == (0, 15, False)
    cached = f"{PATHS}auth_backends.1 = cache\nauth_cache.cached_backend = http\n"
    http = conf.load(cached).auth.http
    assert (http.cache, http.cache_rights, http.cache_refusals) == (15, 15, False)
    http = conf.load(f"{cached}auth_cache.cache_ttl = 500\nauth_cache.cache_refusals = true\n").auth.http
    assert (http.cache, http.cache_rights, http.cache_refusals) == (0.5, 1, True)


def test_a_cache_that_nothing_goes_through_is_worth_a_line(conf: Conf) -> None:
    conf.load(f"{PATHS}auth_backends.1 = http\nauth_cache.cache_ttl = 500\n")
    assert conf.passed_over() == [
        "6: auth_cache.cache_ttl: no effect: it takes auth_backends with cache, which stands for http"
    ]


def test_users_that_are_named_for_loopback_replace_guest(conf: Conf) -> None:
    text = "loopback_users.a\\.b = true\nloopback_users.c = true\nloopback_users.guest = false\n"
    assert conf.load(text).auth.loopback_users == ("a.b", "c")


def test_a_memory_limit_of_a_share_of_what_is_said_to_be_there(conf: Conf) -> None:
    text = "vm_memory_high_watermark.relative = 0.5\ntotal_memory_available_override_value = 1000MB\n"
    assert conf.load(text).limits.memory_high_watermark_absolute == 500_000_000


@pytest.mark.parametrize("limit", ["vm_memory_high_watermark", "disk_free_limit"])
def test_an_absolute_limit_counts_before_a_relative_one(conf: Conf, limit: str) -> None:
    config = conf.load(f"{limit}.relative = 1\n{limit}.absolute = 123456789\n")
    assert 123456789 in (config.limits.disk_free_limit, config.limits.memory_high_watermark_absolute)
    assert conf.passed_over() == [f"1: {limit}.relative: no effect: {limit}.absolute counts"]


def test_a_disk_limit_in_multiples_of_the_memory(conf: Conf) -> None:
    assert conf.load("disk_free_limit.relative = 1.5\n").limits.disk_free_limit == int(machine_memory() * 1.5)
    text = "disk_free_limit.relative = 2.0\ntotal_memory_available_override_value = 1GiB\n"
    assert conf.load(text).limits.disk_free_limit == 2 * 2**30


@pytest.mark.parametrize(
    ("lines", "file", "level", "format_", "noted"),
    [
        ("log.console = true\nlog.console.level = error\n", "", "error", "text", []),
        ("log.file = b.log\nlog.dir = /var/log/r\nlog.file.level = debug\n", "/var/log/r/b.log", "debug", "text", []),
        ("log.file = /l/b.log\nlog.file.formatter = json\n", "/l/b.log", "info", "json", []),
        ("log.file.level = debug\n", "", "info", "text", ["log.file.level"]),
        ("log.file = b.log\n", "", "info", "text", ["log.file"]),
        ("log.dir = /var/log/r\n", "", "info", "text", ["log.dir"]),
        ("log.file = /l/b.log\nlog.console = true\n", "", "info", "text", ["log.file"]),
        ("log.file = /l/b.log\nlog.console = false\nlog.console.level = debug\n", "/l/b.log", "info", "text",
         ["log.console.level"]),
        ("log.default.level = error\nlog.console.level = debug\n", "", "error", "text", []),
        ("log.connection.level = debug\n", "", "info", "text", ["log.connection.level"]),
        ("log.syslog = true\n", "", "info", "text", ["log.syslog"]),
    ],
)  # fmt: skip
def test_where_and_how_lines_are_logged(
    conf: Conf, lines: str, file: str, level: str, format_: str, noted: list[str]
) -> None:
    log = conf.load(lines).log
    assert (log.file, log.level, log.format) == (file, level, format_)
    assert [note.split(": ")[1] for note in conf.passed_over()] == noted


@pytest.mark.parametrize(
    "line",
    [
        "cluster_formation.peer_discovery_backend = k8s",
        "cluster_formation.k8s.host = kubernetes.default.svc.cluster.local",
        "cluster_partition_handling = autoheal",
        "cluster_partition_handling.pause_if_all_down.nodes.1 = rabbit@a",
        "queue_master_locator = min-masters",
        "net_ticktime = 60",
        "raft.wal_max_size_bytes = 1048576",
        "erlang.K = true",
        "num_acceptors.tcp = 10",
        "vm_memory_high_watermark_paging_ratio = 0.5",
        "queue_index_embed_msgs_below = 4kb",
        "collect_statistics_interval = 5000",
        "management.tcp.port = 15672",
        "management.path_prefix = /mq",
        "prometheus.return_per_object_metrics = true",
        "mqtt.listeners.tcp.default = 1883",
        "stomp.listeners.tcp.1 = 61613",
        "auth_ldap.servers.1 = ldap.example",
        "tcp_listen_options.keepalive = true",
        "tcp_listen_options.linger.on = true",
        "deprecated_features.permit.transient_nonexcl_queues = true",
        "anonymous_login_user = none",
        "log.console.use_colors = on",
        "log.file.rotation.size = 10485760",
        "ssl_options.honor_cipher_order = true",
        "ssl_options.depth = 2",
        "definitions.skip_if_unchanged = true",
        "auth_http.connection_timeout = 1500",
        "auth_http.ssl_options.fail_if_no_peer_cert = true",
        "auth_http.ssl_options.hostname_verification = none",
        "auth_http.ssl_options.depth = 2",
        "auth_http.authorization_failure_disclosure = true",
        "default_queue_type = quorum",
    ],
)
def test_a_key_without_a_counterpart_is_accepted_and_named(conf: Conf, line: str) -> None:
    config = conf.load(f"\n{line}\n")
    assert config == conf.load("")
    conf.load(f"\n{line}\n")
    (note,) = conf.passed_over()
    assert note.startswith(f"2: {line.partition(' ')[0]}: no effect: ")


def test_keys_that_say_what_is_so_anyway_are_not_worth_a_line(conf: Conf) -> None:
    text = (
        "auth_backends.1 = rabbit_auth_backend_internal\nssl_options.crl_check = false\n"
        "definitions.import_backend = local_filesystem\ndefault_queue_type = classic\nlisteners.ssl = none\n"
        "auth_http.ssl_options.hostname_verification = wildcard\nauth_http.ssl_options.crl_check = false\n"
        "credential_validator.validation_backend = rabbit_credential_validator_accept_everything\n"
    )
    assert conf.load(text) == conf.load("")
    assert conf.notes == []


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ("heartbeat = soon", "1: heartbeat = soon: expected a whole number of seconds"),
        (
            "heartbeat = 70000",
            "1: heartbeat = 70000: protocol.heartbeat takes a whole number of seconds from 0",
        ),
        ("frame_max = 1KiB", "1: frame_max = 1KiB: expected a number of bytes, or one with KB"),
        ("frame_max = 100", "1: frame_max = 100: protocol.frame_max takes a size from 4096"),
        ("max_message_size = 600000000", "1: max_message_size = 600000000: protocol.max_message_size takes"),
        (
            "handshake_timeout = infinity",
            "1: handshake_timeout = infinity: expected a whole number of millis",
        ),
        ("connection_max = 0", "1: connection_max = 0: expected a whole number from 1, or infinity"),
        ("tcp_listen_options.nodelay = yes", "1: tcp_listen_options.nodelay = yes: expected true or false"),
        (
            "vm_memory_high_watermark.relative = 40%",
            "1: vm_memory_high_watermark.relative = 40%: expected a num",
        ),
        ("vm_memory_high_watermark.relative = 2", "1: vm_memory_high_watermark.relative = 2: limits.memory_"),
        ("disk_free_limit.absolute = lots", "1: disk_free_limit.absolute = lots: expected a number of bytes"),
        ("listeners.tcp.default = amqp", "1: listeners.tcp.default = amqp: expected a port such as 5672"),
        ("listeners.tcp.1 = 1.2.3.4", "1: listeners.tcp.1 = 1.2.3.4: expected a port such as 5672"),
        ("listeners.tcp.1 = ::g:5672", '1: listeners.tcp.1 = ::g:5672: "::g" is not an IPv6 address'),
        ("listeners.tcp = none", "1: listeners.tcp = none: this needs listeners.ssl.default"),
        ("listeners.tcp = all", "1: listeners.tcp = all: expected none"),
        ("listeners.ssl.default = 5671", "1: listeners.ssl.default = 5671: this needs ssl_options.certfile"),
        (
            "ssl_options.verify = verify_peer",
            "1: ssl_options.verify = verify_peer: this needs ssl_options.cacert",
        ),
        (
            "ssl_options.fail_if_no_peer_cert = true",
            "1: ssl_options.fail_if_no_peer_cert = true: this needs ssl",
        ),
        ("ssl_options.versions.1 = tlsv1.1", "1: ssl_options.versions.1 = tlsv1.1: versions before TLS 1.2"),
        ("ssl_options.crl_check = peer", "1: ssl_options.crl_check = peer: lists of revoked certificates"),
        (
            "auth_http.ssl_options.keyfile = /etc/b.key",
            "1: auth_http.ssl_options.keyfile = /etc/b.key: this needs auth_http.ssl_options.certfile",
        ),
        (
            "auth_http.ssl_options.crl_check = best_effort",
            "1: auth_http.ssl_options.crl_check = best_effort: lists of revoked certificates",
        ),
        (
            "auth_http.ssl_options.hostname_verification = strict",
            "1: auth_http.ssl_options.hostname_verification = strict: expected wildcard or none",
        ),
        ("auth_backends.1 = ldap", "1: auth_backends.1 = ldap: expected internal, http or cache"),
        ("auth_backends.1 = http", "1: auth_backends.1 = http: this needs auth_http.user_path"),
        (
            "auth_backends.1 = http\nauth_http.user_path = http://h/u",
            "1: auth_backends.1 = http: this needs auth_http.vhost_path",
        ),
        (
            "auth_backends.1.authn = http\nauth_backends.1.authz = internal",
            "1: auth_backends.1.authn = http: this needs auth_http.user_path",
        ),
        (
            "auth_backends.1.authn = cache\nauth_backends.1.authz = internal",
            "1: auth_backends.1.authn = cache: cache stands for both",
        ),
        (
            "auth_backends.1 = cache\nauth_cache.cached_backend = ldap",
            "2: auth_cache.cached_backend = ldap: expected internal or http",
        ),
        ("auth_mechanisms.1 = ANONYMOUS", "1: auth_mechanisms.1 = ANONYMOUS: auth.mechanisms takes"),
        (
            "ssl_cert_login_from = subject_alternative_name",
            "1: ssl_cert_login_from = subject_alternative_name: exp",
        ),
        ("default_users.bob.tags = x", "1: default_users.bob.tags = x: put it into a file of definitions"),
        ("default_limits.vhosts.1.max_queues = 5", "1: default_limits.vhosts.1.max_queues = 5: put it into"),
        (
            "credential_validator.validation_backend = rabbit_credential_validator_min_password_length",
            "1: credential_validator.validation_backend = rabbit_credential_validator_min_password_length: new pass",
        ),
        (
            "definitions.import_backend = https",
            "1: definitions.import_backend = https: definitions are loaded",
        ),
        ("default_permissions.read = (", "1: default_permissions.read = (: "),
        ("log.console.level = loud", "1: log.console.level = loud: expected debug, info"),
    ],
)
def test_what_cannot_be_done_is_refused_with_its_line(conf: Conf, lines: str, message: str) -> None:
    problems = conf.refused(f"{lines}\n")
    assert len(problems) == 1
    assert problems[0].startswith(message)


@pytest.mark.parametrize("key", [key.pattern for key in REFUSED])
def test_every_refused_key_is_refused(conf: Conf, key: str) -> None:
    line = key.replace("**", "x.y").replace("$name", "x").replace("$type", "RSAPrivateKey")
    assert ": " in conf.refused(f"{line} = 1\n")[0]


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("hartbeat", "heartbeat"),
        ("listeners.tpc.default", "listeners.tcp.default"),
        ("listener.tcp.1", "listeners.tcp.1"),
        ("vm_memory_high_watermark", "vm_memory_high_watermark.relative"),
        ("ssl_options.cafile", "ssl_options.cacertfile"),
        ("loopback_user.guest", "loopback_users.guest"),
        ("management.load_definition", "management.load_definitions"),
        ("cluster_fromation.node_type", "cluster_formation.node_type"),
        ("channels_max", "channel_max"),
        ("zebra", ""),
    ],
)
def test_an_unknown_key_is_told_with_the_nearest_known_one(conf: Conf, written: str, meant: str) -> None:
    assert find_key(tuple(written.split("."))) is None
    assert nearest_key(tuple(written.split("."))) == meant
    suggestion = f"; did you mean {meant}?" if meant else ""
    assert conf.refused(f"\n{written} = 7\n") == [f"2: {written}: unknown key{suggestion}"]


def test_everything_that_is_wrong_is_told_at_once(conf: Conf) -> None:
    problems = conf.refused("heartbeat = x\n\nhartbeat = 5\nno line\nlisteners.tcp.1 = y\n")
    assert sorted(problem.split(":")[0] for problem in problems) == ["1", "3", "4", "5"]


@pytest.mark.parametrize("line", ["default_pass = encrypted:abc", "ssl_options.password = encrypted:abc"])
def test_encrypted_values_are_refused_and_no_password_is_shown(conf: Conf, line: str) -> None:
    (problem,) = conf.refused(f"{line}\n")
    assert "encrypted values cannot be read here" in problem
    assert "abc" not in problem


def test_the_value_of_an_unknown_key_is_not_shown(conf: Conf) -> None:
    assert "hunter2" not in conf.refused("defalt_pas = hunter2\n")[0]


def test_a_file_of_conf_d_is_named_with_its_own_line(conf: Conf) -> None:
    conf.path.write_text("heartbeat = 5\n")
    other = conf.path.parent / "conf.d" / "10.conf"
    other.parent.mkdir()
    other.write_text("\nheartbeat = x\n")
    with pytest.raises(ConfigError) as caught:
        load_config(conf.path, {})
    assert str(caught.value).startswith(f"{other}:2: heartbeat = x: ")


def test_variables_and_flags_override_the_file_and_the_file_may_refer_to_variables(conf: Conf) -> None:
    environ = {"AMQP_BROKER_PROTOCOL_HEARTBEAT": "7", "SECRET": "s3", "RABBITMQ_DEFAULT_USER": "u"}
    config = conf.load(
        "heartbeat = 5\ndefault_pass = $(SECRET)\ndefault_user = f\nframe_max = 8192\n", environ
    )
    assert (config.protocol.heartbeat, config.protocol.frame_max) == (7, 8192)
    assert (config.auth.default_user, config.auth.default_pass) == ("u", "s3")
    conf.path.write_text("listeners.tcp.1 = 10.0.0.1:5672\n")
    assert load_config(conf.path, {}, {"--port": 9}).listeners.tcp == (Address("10.0.0.1", 9),)


def test_a_directory_of_fragments_is_read_like_a_file(tmp_path: Path) -> None:
    (tmp_path / "10-a.conf").write_text("heartbeat = 5\n")
    assert load_config(tmp_path, {}).protocol.heartbeat == 5


def test_a_file_with_another_name_is_toml(tmp_path: Path) -> None:
    file = tmp_path / "rabbitmq.cfg"
    file.write_text("heartbeat = 5\n")
    with pytest.raises(ConfigError, match=r"did you mean protocol\.heartbeat"):
        load_config(file, {})


@given(
    st.lists(
        st.one_of(
            st.text(max_size=30),
            st.builds(
                "{} = {}".format,
                st.sampled_from([key.pattern.replace("$", "").replace("**", "x") for key in KEYS]),
                st.one_of(
                    st.text(max_size=30), st.integers(-10, 10**500), st.sampled_from(["none", "true", "5GB"])
                ),
            ),
        ),
        max_size=8,
    )
)
@settings(max_examples=examples(100), suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_whatever_stands_there_is_a_configuration_or_told_with_its_line(conf: Conf, lines: list[str]) -> None:
    conf.path.write_text("\n".join(lines), "utf-8", "surrogatepass")
    config, problems = load_file(conf.path)
    assert isinstance(config, Config)
    assert all(problem.source.startswith(str(conf.path.parent)) for problem in problems)
    assert all(problem.line or "UTF-8" in problem.problem for problem in problems)


def test_without_a_rabbitmq_conf_nothing_that_reads_one_is_imported() -> None:
    program = (
        "import sys; from amqp_broker.config import load_config; load_config(environ={'HOME': '/'});"
        "sys.exit(any('rabbitmq_conf' in name for name in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", program], timeout=30, check=False).returncode == 0
