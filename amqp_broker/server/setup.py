"""From the configuration to what the layers below want: session settings, users, and the announced properties."""

from __future__ import annotations

import platform
from collections.abc import Mapping

from amqp_broker import build_info
from amqp_broker.broker.access import Permission, User
from amqp_broker.broker.broker import Broker
from amqp_broker.broker.limits import NodeLimits
from amqp_broker.broker.passwords import hash_password
from amqp_broker.config import Config
from amqp_broker.content.table import Field, table_of
from amqp_broker.session.settings import SessionSettings

CAPABILITIES = {
    "publisher_confirms": True,
    "exchange_exchange_bindings": True,
    "basic.nack": True,
    "consumer_cancel_notify": True,
    "connection.blocked": True,
    "consumer_priorities": True,
    "authentication_failure_close": True,
    "per_consumer_qos": True,
    "direct_reply_to": True,
}


def server_properties(config: Config) -> dict[str, Field]:
    """What connection.start announces: RabbitMQ's product and version, and our own beside them."""
    protocol = config.protocol
    properties: dict[str, object] = {
        "capabilities": CAPABILITIES,
        "cluster_name": protocol.cluster_name,
        "copyright": "Licensed under the Apache License 2.0",
        "information": "Clients of RabbitMQ work unchanged",
        "platform": f"{platform.python_implementation()} {platform.python_version()}",
        "product": protocol.product,
        "version": protocol.version,
        "broker": build_info.NAME,
        "broker_version": build_info.VERSION,
    }
    extra: Mapping[str, object] = protocol.server_properties
    properties.update(extra)
    return table_of(properties)


def session_settings(config: Config) -> SessionSettings:
    protocol, limits = config.protocol, config.limits
    settings = SessionSettings(server_properties(config))
    settings.mechanisms = list(config.auth.mechanisms)
    settings.loopback_users = list(config.auth.loopback_users)
    settings.external_is_distinguished = config.auth.external_name == "distinguished_name"
    settings.frame_max = protocol.frame_max
    settings.channel_max = protocol.channel_max
    settings.heartbeat = protocol.heartbeat
    settings.handshake_timeout = protocol.handshake_timeout
    settings.max_message_size = protocol.max_message_size
    settings.ignore_deaths = protocol.x_death_from_clients == "ignore"
    settings.consumer_max = limits.consumer_max_per_channel
    settings.node_limits = NodeLimits(protocol.cluster_name, limits.channel_max_per_node, limits.queue_max)
    settings.consumer_timeout = limits.consumer_timeout
    settings.high_water = limits.output_high_watermark
    settings.low_water = limits.output_low_watermark
    return settings


def add_default_user(broker: Broker, config: Config) -> None:
    """Before `Broker.recover`, which knows what of it was removed for good."""
    auth = config.auth
    name, place = auth.default_user, auth.default_vhost
    broker.configured = {("vhost", place), ("user", name), ("permission", name, place)}
    vhost = broker.add_vhost(auth.default_vhost)
    user = User(auth.default_user, hash_password(auth.default_pass), list(auth.default_user_tags))
    permissions = auth.default_permissions
    broker.permit(user, vhost.name, Permission(permissions.configure, permissions.write, permissions.read))
    broker.add_user(user)
