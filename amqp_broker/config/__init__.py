"""The broker's configuration: one immutable, typed `Config`, made by `load_config` and passed to whoever
needs it.
"""

from __future__ import annotations

from amqp_broker.config.errors import ConfigError
from amqp_broker.config.limits import Limits
from amqp_broker.config.load import load_config
from amqp_broker.config.options import Auth, Config, Data, Listeners, Log, Permissions, Protocol
from amqp_broker.config.values import Address

__all__ = [
    "Address",
    "Auth",
    "Config",
    "ConfigError",
    "Data",
    "Limits",
    "Listeners",
    "Log",
    "Permissions",
    "Protocol",
    "load_config",
]
