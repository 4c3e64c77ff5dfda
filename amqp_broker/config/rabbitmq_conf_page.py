"""Writes docs/rabbitmq-conf.md: how a rabbitmq.conf is read, and what each of its keys does here."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from amqp_broker.config.rabbitmq_conf_keys import BY_RULE, REFUSED, SETTING, Key
from amqp_broker.config.rabbitmq_conf_passed import PASSED

HEADER: Final = """\
<!-- Generated from the table of keys by python -m amqp_broker.config --write docs/rabbitmq-conf.md -->

# rabbitmq.conf

A configuration that was written for RabbitMQ can be used as it is:

```sh
amqp-broker serve --config /etc/rabbitmq/rabbitmq.conf
```

A file whose name ends in `.conf` is read as RabbitMQ reads it; every other file is TOML. What a key sets here, it sets
as with RabbitMQ, and with the same limits as the option in [configuration.md](configuration.md). A key that can have no
effect here is accepted, and a line of the log (level info) names it and says why. A key that nobody knows keeps the
broker from starting, and so does one without whose effect the broker would be less safe than its configuration says:

```text
rabbitmq.conf:7: hartbeat: unknown key; did you mean heartbeat?
rabbitmq.conf:9: auth_backends.1 = ldap: expected internal, http or cache
```

`amqp-broker check-config rabbitmq.conf` says all of that without starting anything, and
`amqp-broker convert-config rabbitmq.conf > broker.toml` writes the same configuration as TOML: only what is not as by
default, with a comment for each key that has no effect. Passwords are in it as they are in the original.

## How it is read

- `#` begins a comment, wherever it stands: `default_pass = a#b` is the password `a`. In single quotes it does not:
  `default_pass = 'a#b'`. An empty value is written `''`. A dot that belongs to a word of a key is written `\\.`.
- A line replaces an earlier one with the same key. After the file, `conf.d/*.conf` beside it are read in the order of
  their names, as for RabbitMQ. A directory may be given instead of a file and stands for the `*.conf` in it.
  `include FILE` reads another file, whose place is relative to the one that names it.
- `$(NAME)` in a value stands for the value of the key of that name, or else for the environment variable. One that does
  not exist is an error.
- `frame_max` counts KB, MB and GB in 1024s. Memory and disk limits have kB, MB, GB for thousands and k, kiB, M, MiB, G,
  GiB for 1024s. Times are in milliseconds, but for `heartbeat`, which is in seconds.
- `encrypted:` values cannot be read; use `$(NAME)`.
- `advanced.config` and other files of Erlang terms are not read.

Where no key says anything, the defaults are those of [configuration.md](configuration.md), with three exceptions
that make a rabbitmq.conf mean what it means to RabbitMQ: without `listeners.tcp`, port 5672 of all addresses accepts
connections; without `ssl_cert_login_from`, `EXTERNAL` goes by the distinguished name; and a service is asked over HTTP
about every login, unless `auth_backends` has it asked by way of `cache`. RabbitMQ's user `guest` is
made here, too, and may log in from this machine only.

## What overrides what

1. The file, then the files of `conf.d`.
2. `RABBITMQ_DEFAULT_USER`, `RABBITMQ_DEFAULT_PASS` and `RABBITMQ_DEFAULT_VHOST`.
3. `AMQP_BROKER_...` variables, see [configuration.md](configuration.md#what-overrides-what).
4. Flags of `amqp-broker serve`.

The variables of the second line are those of RabbitMQ's container image; they count whatever the format of the file is,
and without a file. With `_FILE` appended to its name, such a variable names a file with the value, as for a secret of
Docker or Kubernetes: `RABBITMQ_DEFAULT_PASS_FILE=/run/secrets/password`. Line breaks at the end of that file do not
count. An empty variable is none, and both forms of one at once are an error. `RABBITMQ_CONFIG_FILE` names the file
where `--config` does not; without a suffix, `.conf` is added. RabbitMQ's image lets `guest` in from everywhere; this
broker does not, so name a user, or write `loopback_users = none`.

"""

SETTING_HEADER: Final = """\
## Keys with an effect

`$name` stands for any word.

| key | option here | |
|---|---|---|
"""

REFUSED_HEADER: Final = """
## Keys that are refused

`**` stands for one or more words.

| key | what to do |
|---|---|
"""

PASSED_HEADER: Final = """
## Keys that are accepted and have no effect

The reasons stand in the log.

| keys | reason |
|---|---|
"""


def rabbitmq_conf_page() -> str:
    """The text of docs/rabbitmq-conf.md."""
    return "".join(_parts())


def _parts() -> Iterator[str]:
    yield HEADER
    yield SETTING_HEADER
    for key in sorted((*SETTING, *BY_RULE), key=_by_key):
        yield f"| `{key.pattern}` | {f'`{key.option}`' if key.option else ''} | {key.says} |\n"
    yield REFUSED_HEADER
    for key in sorted(REFUSED, key=_by_key):
        yield f"| `{key.pattern}` | {key.reason} |\n"
    yield PASSED_HEADER
    for reason, patterns in PASSED:
        yield f"| {', '.join(f'`{pattern}`' for pattern in patterns.split())} | {reason} |\n"


def _by_key(key: Key) -> tuple[str, ...]:
    return key.words
