"""The environment variables of RabbitMQ's container image, for deployments that are made for it.

`RABBITMQ_DEFAULT_USER`, `_PASS` and `_VHOST` say what the first user and virtual host are; with `_FILE` appended
they name a file that says it, which is how containers are given secrets. `RABBITMQ_CONFIG_FILE` names the
configuration file. Other variables of RabbitMQ are not looked at.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

from amqp_broker.config.errors import ConfigError

PREFIX: Final = "RABBITMQ_"
# Of a file that says one thing, in bytes: what is longer is another file, or a device that never ends.
LONGEST: Final = 65536
CONFIG_FILE: Final = "RABBITMQ_CONFIG_FILE"
OPTIONS: Final[Mapping[str, str]] = {
    "RABBITMQ_DEFAULT_USER": "auth.default_user",
    "RABBITMQ_DEFAULT_PASS": "auth.default_pass",
    "RABBITMQ_DEFAULT_VHOST": "auth.default_vhost",
}


def configuration_file(environ: Mapping[str, str]) -> str | None:
    """The file that `RABBITMQ_CONFIG_FILE` names, which RabbitMQ lets people write without its suffix."""
    name = environ.get(CONFIG_FILE, "")
    if not name:
        return None
    if name.endswith(".config"):
        raise ConfigError(f"environment variable {CONFIG_FILE}", f"{name}: Erlang terms cannot be read here")
    return name if name.endswith((".conf", ".toml")) else f"{name}.conf"


def said_by(environ: Mapping[str, str]) -> Iterator[tuple[str, str, str]]:
    """Variable, option's path and text for each one that is set and not empty. Raises ConfigError."""
    for name, path in OPTIONS.items():
        text, file = environ.get(name, ""), environ.get(f"{name}_FILE", "")
        if text and file:
            raise ConfigError(
                f"environment variable {name}_FILE", f"{name} is set, too; only one of them can be"
            )
        if text:
            yield name, path, text
        elif file:
            yield f"{name}_FILE", path, _content(f"{name}_FILE", file)


def _content(name: str, file: str) -> str:
    try:
        with open(file, "rb") as opened:
            octets = opened.read(LONGEST + 1)
        if len(octets) <= LONGEST:
            return octets.decode("utf-8").rstrip("\r\n")
        problem = f"{file}: longer than {LONGEST} bytes"
    except OSError as error:
        problem = f"{file}: cannot be read: {error.strerror or error}"
    except UnicodeDecodeError:
        problem = f"{file}: not UTF-8 text"
    raise ConfigError(f"environment variable {name}", problem)
