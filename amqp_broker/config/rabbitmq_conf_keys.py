"""The table of the keys of rabbitmq.conf: which option each one sets, which are passed over, which are refused.

A key that simply sets an option has a `Reader`; where several keys make one value, `rabbitmq_conf_rules` has the
rule. docs/rabbitmq-conf.md is written from this table. It neither reads files nor translates values.
"""

from __future__ import annotations

from functools import cache
from typing import Final

import msgspec

from amqp_broker.config.rabbitmq_conf_passed import PASSED
from amqp_broker.config.rabbitmq_conf_text import Words
from amqp_broker.config.rabbitmq_conf_values import (
    Bytes,
    Flag,
    Limit,
    Milliseconds,
    Reader,
    Text,
    Whole,
    Word,
)

MOST_CHANNELS: Final = 65535
LARGEST_FRAME: Final = 128 * 2**20


class Key(msgspec.Struct, frozen=True):
    """One row. pattern: the key, `$word` for any word, `**` for one or more words at its end.

    option: the dotted path of the option that it sets, "" if there is none. reader: how its value becomes the
    option's; None where a rule reads it. reason: why it is passed over or refused. says: more for the documentation.
    """

    pattern: str
    option: str = ""
    reader: Reader | None = None
    says: str = ""
    reason: str = ""
    refused: bool = False

    @property
    def words(self) -> Words:
        return tuple(self.pattern.split("."))

    @property
    def passed_over(self) -> bool:
        return bool(self.reason) and not self.refused

    def matches(self, words: Words) -> bool:
        """Whether a key of a file is this one."""
        own = self.words
        if own[-1] == "**":
            own, words = own[:-1], words[: len(own) - 1] if len(words) >= len(own) else ()
        return len(own) == len(words) and all(
            expected == word or expected.startswith("$") for expected, word in zip(own, words, strict=True)
        )


SETTING: Final = (
    Key("heartbeat", "protocol.heartbeat", Whole("seconds")),
    Key(
        "frame_max",
        "protocol.frame_max",
        Bytes(unlimited=LARGEST_FRAME),
        "0, no limit, is the largest there is",
    ),
    Key(
        "channel_max",
        "protocol.channel_max",
        Whole("channels", MOST_CHANNELS),
        "0, no limit, is the most there are",
    ),
    Key("max_message_size", "protocol.max_message_size", Whole("bytes")),
    Key("handshake_timeout", "protocol.handshake_timeout", Milliseconds()),
    Key("cluster_name", "protocol.cluster_name", Text()),
    Key("product.name", "protocol.product", Text()),
    Key("product.version", "protocol.version", Text()),
    Key("connection_max", "limits.connection_max", Limit()),
    Key("channel_max_per_node", "limits.channel_max_per_node", Limit()),
    Key("cluster_queue_limit", "limits.queue_max", Limit()),
    Key("consumer_max_per_channel", "limits.consumer_max_per_channel", Limit()),
    Key("consumer_timeout", "limits.consumer_timeout", Milliseconds()),
    Key("default_vhost", "auth.default_vhost", Text()),
    Key("default_user", "auth.default_user", Text()),
    Key("default_pass", "auth.default_pass", Text()),
    Key("default_permissions.configure", "auth.default_permissions.configure", Text()),
    Key("default_permissions.write", "auth.default_permissions.write", Text()),
    Key("default_permissions.read", "auth.default_permissions.read", Text()),
    Key("tcp_listen_options.backlog", "listeners.backlog", Whole("connections")),
    Key("tcp_listen_options.nodelay", "listeners.nodelay", Flag()),
    Key("proxy_protocol", "listeners.proxy_protocol", Flag()),
    Key("ssl_options.certfile", "tls.certificate", Text()),
    Key("ssl_options.keyfile", "tls.key", Text()),
    Key("ssl_options.cacertfile", "tls.ca", Text()),
    Key("ssl_options.password", "tls.password", Text()),
    Key(
        "ssl_cert_login_from",
        "auth.external_name",
        Word({"common_name": "common_name", "distinguished_name": "distinguished_name"}),
        "as with RabbitMQ, `distinguished_name` where `EXTERNAL` is offered and this key is not there",
    ),
    Key("auth_http.http_method", "auth.http.method", Word({"get": "get", "post": "post"})),
    Key("auth_http.user_path", "auth.http.user_path", Text()),
    Key("auth_http.vhost_path", "auth.http.vhost_path", Text()),
    Key("auth_http.resource_path", "auth.http.resource_path", Text()),
    Key("auth_http.topic_path", "auth.http.topic_path", Text()),
    Key("auth_http.request_timeout", "auth.http.timeout", Milliseconds()),
    Key("auth_http.ssl_options.cacertfile", "auth.http.tls.ca", Text()),
    Key("auth_http.ssl_options.certfile", "auth.http.tls.certificate", Text()),
    Key("auth_http.ssl_options.keyfile", "auth.http.tls.key", Text()),
    Key("auth_http.ssl_options.password", "auth.http.tls.password", Text()),
    Key(
        "auth_http.ssl_options.verify",
        "auth.http.tls.verify",
        Word({"verify_peer": "required", "verify_none": "none"}),
        "`verify_peer` where this key is not there",
    ),
)

_NO_LISTS: Final = "`false` only: lists of revoked certificates are not read"
BY_RULE: Final = (
    Key("listeners.tcp", "listeners.tcp", says="`none` switches listening without TLS off"),
    Key("listeners.tcp.$name", "listeners.tcp", says="a port alone listens on all addresses, IPv4 and IPv6"),
    Key("listeners.ssl", "listeners.tls", says="`none`"),
    Key("listeners.ssl.$name", "listeners.tls", says="a port alone listens on all addresses, IPv4 and IPv6"),
    Key("ssl_options.verify", "tls.verify", says='`verify_none` is "none", `verify_peer` "optional"'),
    Key("ssl_options.fail_if_no_peer_cert", "tls.verify", says='`true` with `verify_peer` is "required"'),
    Key(
        "ssl_options.versions.$name",
        "tls.min_version",
        says="the oldest counts; none before TLS 1.2 is spoken",
    ),
    Key("ssl_options.ciphers.$name", "tls.ciphers", says="OpenSSL's names, in the order of their numbers"),
    Key("ssl_options.crl_check", says=_NO_LISTS),
    Key(
        "auth_http.ssl_options.versions.$version",
        "auth.http.tls.min_version",
        says="the oldest counts; none before TLS 1.2 is spoken",
    ),
    Key(
        "auth_http.ssl_options.ciphers.$cipher",
        "auth.http.tls.ciphers",
        says="OpenSSL's names, in the order of their numbers",
    ),
    Key("auth_http.ssl_options.crl_check", says=_NO_LISTS),
    Key(
        "auth_http.ssl_options.sni",
        "auth.http.tls.server_name",
        says="`none` is the host of the address, as without it",
    ),
    Key(
        "auth_http.ssl_options.hostname_verification",
        says="the name is always checked, and certificates may have wildcards",
    ),
    Key("auth_mechanisms.$name", "auth.mechanisms", says="in the order of their numbers"),
    Key(
        "auth_backends.$name",
        "auth.backends",
        says="`internal`, `http`, or `cache` for the one in `auth_cache`; without it each login is asked about",
    ),
    Key("auth_backends.$name.authn", "auth.backends", says="who says whether a login is right"),
    Key("auth_backends.$name.authz", "auth.backends", says="who says what the user may do"),
    Key(
        "auth_cache.cached_backend",
        "auth.backends",
        says="`internal` or `http`, where `auth_backends` says `cache`",
    ),
    Key("auth_cache.cached_backend.authn", "auth.backends", says="the same for the login"),
    Key("auth_cache.cached_backend.authz", "auth.backends", says="the same for what the user may do"),
    Key(
        "auth_cache.cache_ttl", "auth.http.cache", says="and `auth.http.cache_rights`, which is 1 s at least"
    ),
    Key("auth_cache.cache_refusals", "auth.http.cache_refusals"),
    Key("loopback_users", "auth.loopback_users", says="`none` lets everybody in from everywhere"),
    Key("loopback_users.$name", "auth.loopback_users", says="those with `true`, and no others"),
    Key("default_user_tags.$name", "auth.default_user_tags", says="those with `true`, and no others"),
    Key(
        "credential_validator.validation_backend", says="`rabbit_credential_validator_accept_everything` only"
    ),
    Key("vm_memory_high_watermark.relative", "limits.memory_high_watermark_relative"),
    Key(
        "vm_memory_high_watermark.absolute",
        "limits.memory_high_watermark_absolute",
        says="counts before the relative one",
    ),
    Key(
        "total_memory_available_override_value",
        "limits.memory_high_watermark_absolute",
        says="the relative watermark's share of it",
    ),
    Key("disk_free_limit.absolute", "limits.disk_free_limit", says="counts before the relative one"),
    Key(
        "disk_free_limit.relative",
        "limits.disk_free_limit",
        says="that many times the machine's or container's memory",
    ),
    Key("load_definitions", "data.load_definitions"),
    Key("management.load_definitions", "data.load_definitions", says="where `load_definitions` is not there"),
    Key("definitions.local.path", "data.load_definitions", says="where `load_definitions` is not there"),
    Key("definitions.import_backend", says="`local_filesystem` only"),
    Key("default_queue_type", says="a queue is of the type that its declaration names, or classic"),
    Key("log.console", "log.file", says="`true`: standard error, whatever `log.file` says"),
    Key("log.console.level", "log.level", says="where lines go to standard error"),
    Key("log.console.formatter", "log.format", says="where lines go to standard error"),
    Key("log.file", "log.file", says="`false`: standard error"),
    Key("log.file.level", "log.level", says="where lines go to a file"),
    Key("log.file.formatter", "log.format", says="where lines go to a file"),
    Key("log.dir", "log.file", says="where a relative `log.file` is"),
    Key("log.default.level", "log.level", says="the stricter of it and the output's"),
)

_DEFINITIONS: Final = "put it into a file of definitions (load_definitions)"
REFUSED: Final = (
    Key("default_users.**", reason=_DEFINITIONS, refused=True),
    Key("default_policies.**", reason=_DEFINITIONS, refused=True),
    Key("default_limits.**", reason=_DEFINITIONS, refused=True),
    *(
        Key(f"{prefix}ssl_options.{key}", reason=f"{reason} with {prefix}ssl_options.{file}", refused=True)
        for prefix in ("", "auth_http.")
        for key, reason, file in (
            ("cert", "write the certificate into a file and name it", "certfile"),
            ("cacerts.$name", "write them into a file and name it", "cacertfile"),
            ("key.$type", "write the key into a file and name it", "keyfile"),
        )
    ),
)

PASSED_OVER: Final = tuple(
    Key(pattern, reason=reason) for reason, patterns in PASSED for pattern in patterns.split()
)
KEYS: Final = (*SETTING, *BY_RULE, *REFUSED, *PASSED_OVER)


@cache
def _by_first_word() -> dict[str, list[Key]]:
    found: dict[str, list[Key]] = {}
    for key in KEYS:
        found.setdefault(key.words[0], []).append(key)
    return found


def find_key(words: Words) -> Key | None:
    """The row of a key; the one without placeholders where several match."""
    matching = [key for key in _by_first_word().get(words[0], []) if key.matches(words)]
    return min(matching, key=lambda key: ("**" in key.pattern, key.pattern.count("$")), default=None)


def nearest_key(words: Words) -> str:
    """The known key that somebody who wrote this one most likely meant; "" if none is near."""
    import difflib

    written = ".".join(words)
    best, best_ratio = "", 0.0
    matcher = difflib.SequenceMatcher(None, "", written)
    for key in KEYS:
        candidate = ".".join(_filled_in(key.words, words))
        matcher.set_seq1(candidate)
        if matcher.real_quick_ratio() > best_ratio and matcher.quick_ratio() > best_ratio:
            ratio = matcher.ratio()
            if ratio > best_ratio:
                best, best_ratio = candidate, ratio
    return best if best_ratio >= 0.7 else ""


def _filled_in(pattern: Words, words: Words) -> Words:
    """A pattern with the words that stand in a key where it has placeholders."""
    if pattern[-1] == "**":
        pattern = (*pattern[:-1], *(words[len(pattern) - 1 :] or ("...",)))
    return tuple(
        words[place] if part.startswith("$") and place < len(words) else part
        for place, part in enumerate(pattern)
    )
