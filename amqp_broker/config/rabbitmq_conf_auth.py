"""What rabbitmq.conf says about who is asked: auth_backends, auth_http and auth_cache, which belong together.

RabbitMQ asks each backend of a chain for the login (authn) and for rights (authz), and one that is named for one of
them alone for both. The backend `cache` stands for another one, whose answers are kept.
"""

from __future__ import annotations

from typing import Final

from amqp_broker.config.backends import HTTP, Backend, backend_name
from amqp_broker.config.rabbitmq_conf_text import Setting
from amqp_broker.config.rabbitmq_conf_translation import Translation
from amqp_broker.config.rabbitmq_conf_values import Flag, Milliseconds, Word

CACHE: Final = "cache"
NAMES: Final = Word(
    {"internal": "internal", "http": HTTP, CACHE: CACHE},
    {
        "rabbit_auth_backend_internal": "internal",
        "rabbit_auth_backend_http": HTTP,
        "rabbit_auth_backend_cache": CACHE,
    },
)
CACHED_NAMES: Final = Word(
    {"internal": "internal", "http": HTTP},
    {"rabbit_auth_backend_internal": "internal", "rabbit_auth_backend_http": HTTP},
)
TTL: Final = Milliseconds()
FLAG: Final = Flag()
# A right counts for so many seconds at least.
LEAST_FOR_RIGHTS: Final = 1.0
HOSTNAME_CHECK: Final = Word({"wildcard": "wildcard", "none": "none"})
ASKED_FOR_LOGINS: Final = ("user_path",)
ASKED_FOR_RIGHTS: Final = ("user_path", "vhost_path", "resource_path", "topic_path")


def backends(conf: Translation) -> None:
    prefix = "auth_backends"
    numbers = {
        setting.words[1] for setting in conf.settings if setting.words[0] == prefix and setting.words[1:]
    }
    chain: dict[str, Setting] = {}
    # Whether the service is asked by way of the cache, for each that asks it.
    kept: list[bool] = []
    for number in sorted(numbers, key=lambda number: (len(number), number)):
        found = _backend(conf, f"{prefix}.{number}", NAMES)
        if found is None:
            continue
        backend, setting = found
        cached = CACHE in backend
        if cached:
            if backend != (CACHE, CACHE):
                conf.refuse(
                    setting, "cache stands for both, authn and authz; auth_cache.cached_backend for each"
                )
                continue
            found = _backend(conf, "auth_cache.cached_backend", CACHED_NAMES)
            backend = Backend("internal", "internal") if found is None else found[0]
        if HTTP in backend:
            if not _has_addresses(conf, setting, backend):
                continue
            kept.append(cached)
        chain.setdefault(backend_name(*backend), setting)
    if chain:
        conf.put(next(iter(chain.values())), "auth.backends", list(chain))
    _cache(conf, kept)


def service_tls(conf: Translation) -> None:
    """What of auth_http.ssl_options does not simply set an option."""
    prefix = "auth_http.ssl_options"
    key, name = conf.find(f"{prefix}.keyfile"), conf.find(f"{prefix}.sni")
    if key is not None and conf.find(f"{prefix}.certfile") is None:
        conf.refuse(key, f"this needs {prefix}.certfile, the file with the certificate")
    if name is not None and name.value != "none":
        conf.put(name, "auth.http.tls.server_name", name.value)
    check = conf.find(f"{prefix}.hostname_verification")
    if check is not None and conf.read(check, HOSTNAME_CHECK) == "none":
        conf.note(check, "no effect: the name is checked all the same, and certificates may have wildcards")


def _backend(conf: Translation, key: str, names: Word) -> tuple[Backend, Setting] | None:
    """What one place in the chain says; None if it says nothing or nothing that can be used."""
    both = conf.find(key)
    login, rights = (conf.find(f"{key}.{part}") or both for part in ("authn", "authz"))
    login, rights = login or rights, rights or login
    if login is None or rights is None:
        return None
    name = conf.read(login, names)
    other = name if rights is login else conf.read(rights, names)
    return None if name is None or other is None else (Backend(name, other), login)


def _has_addresses(conf: Translation, setting: Setting, backend: Backend) -> bool:
    for path in ASKED_FOR_RIGHTS if backend.rights == HTTP else ASKED_FOR_LOGINS:
        if conf.find(f"auth_http.{path}") is None:
            conf.refuse(setting, f"this needs auth_http.{path}, the address that is asked")
            return False
    return True


def _cache(conf: Translation, kept: list[bool]) -> None:
    """kept: see `backends`. RabbitMQ keeps nothing without its cache but the rights of a channel, those for good."""
    ttl, refusals = (conf.find(f"auth_cache.{name}") for name in ("cache_ttl", "cache_refusals"))
    if kept and not all(kept):
        conf.values["auth.http.cache"] = 0.0
    if not kept or not all(kept):
        for setting in conf.settings:
            if setting.words[0] == "auth_cache" and setting.words[-1] != "cache_module":
                conf.note(setting, "no effect: it takes auth_backends with cache, which stands for http")
        return
    if ttl is not None and (seconds := conf.read(ttl, TTL)) is not None:
        conf.put(ttl, "auth.http.cache", seconds)
        conf.put(ttl, "auth.http.cache_rights", max(seconds, LEAST_FOR_RIGHTS))
    if refusals is not None and (flag := conf.read(refusals, FLAG)) is not None:
        conf.put(refusals, "auth.http.cache_refusals", flag)
