"""The broker's configuration: one immutable, typed `Config`, made by `load_config` and passed to whoever
needs it.
"""

from __future__ import annotations

from amqp_broker.config.auth import Auth, Http, Permissions
from amqp_broker.config.errors import ConfigError
from amqp_broker.config.http_tls import HttpTls
from amqp_broker.config.limits import Limits
from amqp_broker.config.listeners import Listeners
from amqp_broker.config.load import load_config
from amqp_broker.config.options import Config, Data, Log, Protocol
from amqp_broker.config.tls import Tls
from amqp_broker.config.values import Address

__all__ = [
    "Address",
    "Auth",
    "Config",
    "ConfigError",
    "Data",
    "Http",
    "HttpTls",
    "Limits",
    "Listeners",
    "Log",
    "Permissions",
    "Protocol",
    "Tls",
    "load_config",
]
