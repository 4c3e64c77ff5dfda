"""The keys of rabbitmq.conf that nothing here answers to, with the reason that is logged for each.

They are accepted, so that a working rabbitmq.conf can be used as it is. A word that starts with `$` stands for any
word, `**` at the end for one or more words. Where something would be less safe without its effect, the key does
not belong here but is refused (`rabbitmq_conf_keys`).
"""

from __future__ import annotations

from typing import Final

_LEVELS_OF: Final = (
    "connection channel mirroring queue federation shovel upgrade ra ldap user prelaunch feature_flags"
)
_CATEGORY: Final = "level file rotation.date rotation.compress rotation.size rotation.count"
_SOCKET: Final = """buffer delay_send dontroute exit_on_close fd high_msgq_watermark high_watermark low_msgq_watermark
    low_watermark port priority recbuf send_timeout send_timeout_close sndbuf tos"""
_MANAGEMENT: Final = """tcp.** ssl.** listener.** cors.** csp.** hsts.** headers.** http.** restrictions.**
    http_log_dir path_prefix login_session_timeout db_cache_multiplier disable_basic_auth disable_stats
    enable_queue_totals rates_mode
    sample_retention_policies.** delegate_count enable_uaa uaa_client_id uaa_location oauth_enabled
    oauth_disable_basic_auth oauth_client_id oauth_client_secret oauth_provider_url oauth_scopes oauth_metadata_url
    oauth_response_type oauth_initiated_logon_type oauth_resource_servers.** oauth_authorization_endpoint_params.**
    oauth_token_endpoint_params.**"""


def _below(prefix: str, leaves: str) -> str:
    return " ".join(f"{prefix}.{leaf}" for leaf in leaves.split())


# Reason and keys. The reason follows "no effect: ".
PASSED: Final[tuple[tuple[str, str], ...]] = (
    (
        "this broker is one node",
        """cluster_formation.** cluster_partition_handling cluster_partition_handling.** cluster_keepalive_interval
        cluster_tags.$tag node_tags.$tag queue_master_locator queue_leader_locator delegate_count
        mirroring_sync_batch_size mirroring_sync_max_throughput raft.** quorum_queue.**
        mnesia_table_loading_retry_timeout mnesia_table_loading_retry_limit metadata_store.** distribution.**
        net_ticktime nodename distributed_cookie forced_feature_flags_on_init""",
    ),
    (
        "there is no Erlang here",
        """erlang.** sysmon_handler.** hipe_compile num_acceptors.tcp num_acceptors.ssl socket_writer.gc_threshold
        background_gc_enabled background_gc_target_interval default_worker_pool_size vhost_restart_strategy
        vm_memory_calculation_strategy memory_monitor_interval ranch_connection_max runtime_parameters.limits.$name""",
    ),
    (
        "messages are kept in another way here (docs/durability.md)",
        """vm_memory_high_watermark_paging_ratio queue_index_embed_msgs_below message_store_shutdown_timeout
        classic_queue.** quorum_queue.compute_checksums""",
    ),
    (
        "the arguments of a queue that exists are compared as they are for classic queues",
        "quorum_queue.property_equivalence.relaxed_checks_on_redeclaration",
    ),
    ("there is no limit of that kind here", "vhost_max cluster_exchange_limit"),
    ("statistics are not collected at intervals", "collect_statistics collect_statistics_interval"),
    ("there is no management interface", _below("management", _MANAGEMENT) + " management_agent.**"),
    ("there is no metrics endpoint", "prometheus.**"),
    (
        "AMQP 0-9-1 is the only protocol",
        """mqtt.** web_mqtt.** stomp.** web_stomp.** stream.** amqp1_0.** web_amqp.** session_max_per_connection
        link_max_per_session max_link_credit""",
    ),
    (
        "it belongs to a plugin that has no counterpart",
        """event_exchange.** trust_store.** auth_ldap.** auth_oauth2.** aws.** amqp_client.**
        consistent_hash_exchange.** shovel.** federation.** sharding.** tracing.** top.**""",
    ),
    ("messages are taken as they are published", "message_interceptors.**"),
    ("all features are on", "deprecated_features.permit.$name feature_flags.**"),
    ("sockets are set up for many small messages", _below("tcp_listen_options", _SOCKET)),
    (
        "heartbeats find peers that are gone (heartbeat)",
        """tcp_listen_options tcp_listen_options.keepalive tcp_listen_options.linger.on
        tcp_listen_options.linger.timeout""",
    ),
    ("addresses are logged as numbers", "reverse_dns_lookups"),
    ("nothing is printed at the start but where the broker listens", "motd_file"),
    ("the size of frames before authentication is fixed", "initial_frame_max"),
    ("passwords are hashed as docs/security.md says", "password_hashing_module"),
    ("a client that offers no password gets nowhere", "anonymous_login_user anonymous_login_pass"),
    (
        "definitions that are there already change nothing",
        "definitions.skip_if_unchanged definitions.hashing.algorithm",
    ),
    ("definitions are loaded from files alone", "definitions.tls.** definitions.https.url"),
    (
        "there is one level for all lines (log.default.level and that of the output)",
        " ".join(_below(f"log.{category}", _CATEGORY) for category in _LEVELS_OF.split()),
    ),
    (
        "lines go to standard error or to one file, which is only appended to",
        """log.syslog log.syslog.** log.exchange log.exchange.** log.journald log.journald.** log.console.stdio
        log.file.rotation.date log.file.rotation.compress log.file.rotation.size log.file.rotation.count
        log.default.rotation.date log.default.rotation.compress log.default.rotation.size log.default.rotation.count""",
    ),
    (
        "the form of a line is fixed (log.format)",
        "log.console.use_colors log.console.color_esc_seqs.$level log.console.formatter.** log.file.formatter.**",
    ),
    (
        "OpenSSL decides that by itself",
        """ssl_options ssl_options.client_renegotiation ssl_options.secure_renegotiate ssl_options.reuse_sessions
        ssl_options.honor_cipher_order ssl_options.honor_ecc_order ssl_options.dh ssl_options.dhfile
        ssl_options.depth ssl_options.psk_identity ssl_options.log_level ssl_options.log_alert
        ssl_options.bypass_pem_cache ssl_allow_poodle_attack
        auth_http.ssl_options auth_http.ssl_options.client_renegotiation auth_http.ssl_options.secure_renegotiate
        auth_http.ssl_options.reuse_sessions auth_http.ssl_options.honor_cipher_order
        auth_http.ssl_options.honor_ecc_order auth_http.ssl_options.dh auth_http.ssl_options.dhfile
        auth_http.ssl_options.depth auth_http.ssl_options.psk_identity auth_http.ssl_options.log_level
        auth_http.ssl_options.log_alert""",
    ),
    ("it is about who connects to a server", "auth_http.ssl_options.fail_if_no_peer_cert"),
    ("a client is not told the service's reasons", "auth_http.authorization_failure_disclosure"),
    ("handshake_timeout is the limit for TLS, too", "ssl_handshake_timeout"),
    ("auth_http.request_timeout counts for connecting, too", "auth_http.connection_timeout"),
    ("answers are kept in memory", "auth_cache.cache_module"),
    (
        "it only counts for names that are read from a certificate's alternative names",
        "ssl_cert_login_san_type ssl_cert_login_san_index",
    ),
    (
        "it only counts with a validator, and there is none",
        "credential_validator.min_length credential_validator.regexp",
    ),
)
