"""What several keys of rabbitmq.conf together make of an option.

Each rule looks for its keys in a `Translation` and says nothing where they are not there, with one exception: a
RabbitMQ that is told nothing about listeners listens on every address, and so does this broker when it reads a
rabbitmq.conf. Keys that simply set one option stand in `rabbitmq_conf_keys`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Final

from amqp_broker.config.memory import machine_memory
from amqp_broker.config.options import options
from amqp_broker.config.rabbitmq_conf_auth import backends, service_tls
from amqp_broker.config.rabbitmq_conf_text import Setting
from amqp_broker.config.rabbitmq_conf_translation import Translation
from amqp_broker.config.rabbitmq_conf_values import Flag, Listener, Number, Resource, Text, Word
from amqp_broker.config.values import Address

DEFAULT_PORT: Final = 5672
IPV6_IS_THERE: Final = Path("/proc/net/if_inet6")

FLAG: Final = Flag()
TEXT: Final = Text()
NONE: Final = Word({"none": "none"})
RELATIVE: Final = Number()
ABSOLUTE: Final = Resource()
LISTENER: Final = Listener()
# What each of RabbitMQ's levels is called here, from the least important on.
LEVELS: Final = Word(
    {
        "debug": "debug",
        "info": "info",
        "notice": "info",
        "warning": "warning",
        "error": "error",
        "critical": "error",
        "alert": "error",
        "emergency": "error",
        "none": "error",
    }
)
SEVERITY: Final = ("debug", "info", "warning", "error")
FORMATS: Final = Word({"plaintext": "text", "json": "json"})
VERIFY: Final = Word({"verify_none": "none", "verify_peer": "peer"})
TOO_OLD: Final = "old"
NEWEST: Final = "TLSv1.3"
TLS_VERSIONS: Final = Word(
    {"tlsv1.3": NEWEST, "tlsv1.2": "TLSv1.2", "tlsv1.1": TOO_OLD, "tlsv1": TOO_OLD, "sslv3": TOO_OLD}
)


def everywhere(port: int) -> list[str]:
    """All addresses of this machine."""
    addresses = [Address("0.0.0.0", port)]  # noqa: S104  what a port alone means in a rabbitmq.conf
    if IPV6_IS_THERE.exists() or not Path("/proc/net").exists():
        addresses.append(Address("::", port))
    return list(map(str, addresses))


def tcp_listeners(conf: Translation) -> None:
    path = "listeners.tcp"
    switch = conf.find(path)
    if switch is not None and conf.read(switch, NONE):
        conf.put(switch, path, [])
        if not conf.under("listeners.ssl"):
            conf.refuse(switch, "this needs listeners.ssl.default, or nobody could connect")
        return
    _listeners(conf, path, path)
    if not conf.under(path):
        conf.values[path] = options()[path].kind.parse(everywhere(DEFAULT_PORT))


def tls_listeners(conf: Translation) -> None:
    switch = conf.find("listeners.ssl")
    if switch is not None and conf.read(switch, NONE):
        return
    _listeners(conf, "listeners.ssl", "listeners.tls")
    settings = conf.under("listeners.ssl")
    if settings and conf.find("ssl_options.certfile") is None:
        conf.refuse(settings[0], "this needs ssl_options.certfile, the file with the certificate")


def _listeners(conf: Translation, prefix: str, path: str) -> None:
    addresses: dict[str, None] = {}
    settings = conf.under(prefix)
    for setting in settings:
        found = conf.read(setting, LISTENER)
        if found is not None:
            host, port = found
            addresses.update(dict.fromkeys([str(Address(host, port))] if host else everywhere(port)))
    if addresses:
        conf.put(settings[0], path, list(addresses))


def verification(conf: Translation) -> None:
    verify, must = conf.find("ssl_options.verify"), conf.find("ssl_options.fail_if_no_peer_cert")
    asked = verify is not None and conf.read(verify, VERIFY) == "peer"
    required = must is not None and conf.read(must, FLAG)
    if must is not None and required and not asked:
        conf.refuse(must, "this needs ssl_options.verify = verify_peer")
    elif verify is not None and asked:
        if conf.find("ssl_options.cacertfile") is None:
            conf.refuse(verify, "this needs ssl_options.cacertfile, the file with the authorities")
        conf.put(verify, "tls.verify", "required" if required else "optional")


def tls_versions(conf: Translation) -> None:
    _versions(conf, "ssl_options.versions", "tls.min_version")
    _versions(conf, "auth_http.ssl_options.versions", "auth.http.tls.min_version")


def _versions(conf: Translation, prefix: str, path: str) -> None:
    settings = conf.under(prefix)
    found = [(version, setting) for setting in settings if (version := conf.read(setting, TLS_VERSIONS))]
    spoken = [(version, setting) for version, setting in found if version != TOO_OLD]
    if not spoken:
        for _, setting in found:
            conf.refuse(setting, "versions before TLS 1.2 are not spoken here")
        return
    for version, setting in found:
        if version == TOO_OLD:
            conf.note(setting, "no effect: versions before TLS 1.2 are not spoken here")
    version, setting = min(spoken, key=lambda pair: pair[0])
    conf.put(setting, path, version)
    if max(version for version, _ in spoken) != NEWEST:
        conf.note(setting, "this is the oldest version; TLS 1.3 is offered beside it")


def ciphers(conf: Translation) -> None:
    for prefix, path in (("", "tls.ciphers"), ("auth_http.", "auth.http.tls.ciphers")):
        settings = conf.under(f"{prefix}ssl_options.ciphers")
        if settings:
            conf.put(settings[0], path, ":".join(setting.value for setting in settings))


def revocation(conf: Translation) -> None:
    for prefix in ("", "auth_http."):
        setting = conf.find(f"{prefix}ssl_options.crl_check")
        if setting is not None and setting.value != "false":
            conf.refuse(setting, "lists of revoked certificates are not read here; only false is possible")


def mechanisms(conf: Translation) -> None:
    settings = conf.under("auth_mechanisms")
    if not settings:
        return
    names = [setting.value for setting in settings]
    conf.put(settings[0], "auth.mechanisms", names)
    if "EXTERNAL" in names and conf.find("ssl_cert_login_from") is None:
        # RabbitMQ's default is not ours, and it says who a client is.
        conf.put(settings[0], "auth.external_name", "distinguished_name")


def loopback_users(conf: Translation) -> None:
    path = "auth.loopback_users"
    switch = conf.find("loopback_users")
    if switch is not None:
        if conf.read(switch, NONE):
            conf.put(switch, path, [])
        return
    _those_that_are_true(conf, "loopback_users", path)


def user_tags(conf: Translation) -> None:
    _those_that_are_true(conf, "default_user_tags", "auth.default_user_tags")


def _those_that_are_true(conf: Translation, prefix: str, path: str) -> None:
    settings = conf.under(prefix)
    if settings:
        chosen = [setting.words[-1] for setting in settings if conf.read(setting, FLAG)]
        conf.put(settings[0], path, chosen)


def validator(conf: Translation) -> None:
    setting = conf.find("credential_validator.validation_backend")
    if setting is not None and setting.value != "rabbit_credential_validator_accept_everything":
        conf.refuse(setting, "new passwords are not validated here")


def memory(conf: Translation) -> None:
    relative, absolute = (conf.find(f"vm_memory_high_watermark.{name}") for name in ("relative", "absolute"))
    total = conf.find("total_memory_available_override_value")
    share_path, size_path = "limits.memory_high_watermark_relative", "limits.memory_high_watermark_absolute"
    if relative is not None and (share := conf.read(relative, RELATIVE)) is not None:
        conf.put(relative, share_path, share)
    if absolute is not None:
        if relative is not None:
            conf.note(relative, "no effect: vm_memory_high_watermark.absolute counts")
        if total is not None:
            conf.note(total, "no effect: vm_memory_high_watermark.absolute counts")
        if (size := conf.read(absolute, ABSOLUTE)) is not None:
            conf.put(absolute, size_path, size)
    elif total is not None and (size := conf.read(total, ABSOLUTE)) is not None:
        share = conf.values.get(share_path, options()[share_path].default)
        conf.put(total, size_path, int(size * share))


def disk(conf: Translation) -> None:
    relative, absolute = (conf.find(f"disk_free_limit.{name}") for name in ("relative", "absolute"))
    if absolute is not None:
        if relative is not None:
            conf.note(relative, "no effect: disk_free_limit.absolute counts")
        if (size := conf.read(absolute, ABSOLUTE)) is not None:
            conf.put(absolute, "limits.disk_free_limit", size)
    elif relative is not None and (times := conf.read(relative, RELATIVE)) is not None:
        total = conf.find("total_memory_available_override_value")
        size = machine_memory() if total is None else conf.read(total, ABSOLUTE)
        if size is not None:
            conf.put(relative, "limits.disk_free_limit", int(size * times))


def definitions(conf: Translation) -> None:
    backend = conf.find("definitions.import_backend")
    if backend is not None and not re.search(r"local(_filesystem)?$", backend.value):
        conf.refuse(backend, "definitions are loaded from files alone: expected local_filesystem")
    keys = ("load_definitions", "management.load_definitions", "definitions.local.path")
    settings = [setting for key in keys if (setting := conf.find(key)) is not None]
    for other in settings[1:]:
        conf.note(other, f"no effect: {settings[0].key} counts")
    if settings:
        file = settings[0]
        if os.path.isdir(file.value):
            conf.refuse(file, "this is a directory; definitions are loaded from one file")
        else:
            conf.put(file, "data.load_definitions", file.value)


def queue_type(conf: Translation) -> None:
    setting = conf.find("default_queue_type")
    if setting is not None and setting.value not in ("classic", "rabbit_classic_queue"):
        conf.note(setting, "no effect: a queue is of the type that its declaration names, or classic")


def log(conf: Translation) -> None:
    console, file = conf.find("log.console"), conf.find("log.file")
    to_console = console is not None and conf.read(console, FLAG)
    if file is not None and file.value != "false":
        if to_console:
            conf.note(file, "no effect: lines go to standard error, as log.console says")
        else:
            to_console = not _log_file(conf, file)
    else:
        to_console = True
        if (directory := conf.find("log.dir")) is not None:
            conf.note(
                directory, "no effect: lines go to standard error; log.file = NAME sends them to a file"
            )
    used, unused = ("console", "file") if to_console else ("file", "console")
    _log_level(conf, used)
    formatter = conf.find(f"log.{used}.formatter")
    if formatter is not None and (name := conf.read(formatter, FORMATS)) is not None:
        conf.put(formatter, "log.format", name)
    for leaf in ("level", "formatter"):
        if (setting := conf.find(f"log.{unused}.{leaf}")) is not None:
            conf.note(setting, f"no effect: lines do not go there (log.{unused})")


def _log_file(conf: Translation, file: Setting) -> bool:
    """Whether lines can go to the file that is named."""
    directory = conf.find("log.dir")
    if directory is None and not Path(file.value).is_absolute():
        conf.note(file, "no effect: lines go to standard error; log.dir = DIRECTORY says where the file is")
        return False
    conf.put(file, "log.file", str(Path(directory.value if directory is not None else "", file.value)))
    return True


def _log_level(conf: Translation, output: str) -> None:
    settings = [conf.find(f"log.{name}.level") for name in (output, "default")]
    levels = [
        (SEVERITY.index(level), setting)
        for setting in settings
        if setting is not None and (level := conf.read(setting, LEVELS)) is not None
    ]
    if levels:
        severity, setting = max(levels, key=lambda pair: pair[0])
        conf.put(setting, "log.level", SEVERITY[severity])


RULES: Final[tuple[Callable[[Translation], None], ...]] = (
    tcp_listeners,
    tls_listeners,
    verification,
    tls_versions,
    ciphers,
    revocation,
    mechanisms,
    backends,
    service_tls,
    loopback_users,
    user_tags,
    validator,
    memory,
    disk,
    definitions,
    queue_type,
    log,
)
