"""The options of the section `auth`: who may connect, how they prove it, and who is asked about it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

import msgspec

from amqp_broker.config.backends import BACKENDS, HTTP, backend_of
from amqp_broker.config.http_tls import HTTPS, HttpTls
from amqp_broker.config.option import Option, Section
from amqp_broker.config.values import Choice, Duration, Pattern, Switch, Text, Texts


class Mechanisms(Texts):
    """The authentication mechanisms that are offered, in that order."""

    def __init__(self) -> None:
        super().__init__(
            Choice("PLAIN", "AMQPLAIN", "EXTERNAL"),
            'a list of "PLAIN", "AMQPLAIN" and "EXTERNAL" with at least one entry',
            1,
        )


class Backends(Texts):
    """Who is asked whether a login is right and what the user may do, in that order."""

    def __init__(self) -> None:
        *others, last = (f'"{name}"' for name in BACKENDS)
        super().__init__(
            Choice(*BACKENDS), f"a list of {', '.join(others)} and {last} with at least one entry", 1
        )


class Url(Text):
    """The address of a service, or "" for none."""

    def __init__(self) -> None:
        super().__init__('an address that starts with "http://" or "https://", or ""')

    def parse(self, value: object) -> str:
        text = super().parse(value)
        if text:
            from urllib.parse import urlsplit

            parts = urlsplit(text)
            if parts.scheme not in ("http", "https") or not parts.hostname:
                raise ValueError
            if parts.query or parts.fragment or parts.username is not None:
                raise ValueError("it may hold neither a query nor a fragment nor a user")
            if not text.isascii() or not text.isprintable() or " " in text:
                raise ValueError("it may hold ASCII characters without spaces alone; write others as %XX")
            if parts.port == 0:
                raise ValueError("its port is 0")
            text = parts.scheme + text[len(parts.scheme) :]
        return text


def auth_contradictions(auth: Auth) -> Iterator[tuple[str, str, str]]:
    """Values that are each allowed but not together: the option's path, its value, and why not."""
    for name in auth.backends:
        asked = backend_of(name)
        paths = ["user_path"] if HTTP in asked else []
        if asked.rights == HTTP:
            paths += ["vhost_path", "resource_path", "topic_path"]
        missing = [path for path in paths if not getattr(auth.http, path)]
        for path in missing:
            yield f"auth.http.{path}", '""', f'has to be an address, as auth.backends has "{name}"'
        if missing:
            return
    if auth.http.tls.key and not auth.http.tls.certificate:
        yield "auth.http.tls.certificate", '""', "has to be a file, as auth.http.tls.key is one"


class Permissions(Section, frozen=True, kw_only=True):
    """What the default user may do in the default virtual host: regular expressions over resource names."""

    configure: Annotated[
        str,
        Option(
            Pattern(), """Exchanges and queues the default user may declare and delete. "" permits none."""
        ),
    ] = ".*"
    write: Annotated[
        str,
        Option(Pattern(), """Exchanges it may publish to and queues it may bind. "" permits none."""),
    ] = ".*"
    read: Annotated[
        str,
        Option(Pattern(), """Queues it may consume from and exchanges it may bind to. "" permits none."""),
    ] = ".*"


class Http(Section, frozen=True, kw_only=True):
    """The service that is asked if `auth.backends` names "http"; it speaks as for RabbitMQ's plugin."""

    user_path: Annotated[
        str,
        Option(
            Url(),
            """Where it is asked whether user and password are right: the whole address. It answers "allow", with
            the user's tags behind, or "deny", with status 200 or 201. Both travel in the request, so use https://
            or this machine.""",
        ),
    ] = ""
    vhost_path: Annotated[
        str,
        Option(Url(), """Where it is asked whether a user may open a virtual host, which has to be there."""),
    ] = ""
    resource_path: Annotated[
        str,
        Option(
            Url(), """Where it is asked whether a user may configure, write or read a queue or exchange."""
        ),
    ] = ""
    topic_path: Annotated[
        str,
        Option(
            Url(),
            """Where it is asked whether a user may use a routing key with an exchange of type topic.""",
        ),
    ] = ""
    method: Annotated[
        str,
        Option(
            Choice("get", "post"),
            """How it is asked: "get" puts the values into the address, where a log of the service may keep the
            passwords; "post" sends them as a form.""",
        ),
    ] = "get"
    timeout: Annotated[
        float,
        Option(
            Duration(0.1, 60),
            """How long an answer may take altogether, with waiting for other requests and connecting. Without one
            a client that logs in is disconnected, and tries again; any other right is refused.""",
        ),
    ] = 5.0
    cache: Annotated[
        float,
        Option(
            Duration(0, 86400),
            """How long an answer "allow" about a login or a virtual host counts without asking again. A right that
            is taken away in the service lives on for so long in new connections; 0 asks about every login.""",
        ),
    ] = 15.0
    cache_rights: Annotated[
        float,
        Option(
            Duration(1, 86400),
            """How long an answer "allow" about a queue, an exchange or a routing key counts, also in channels that
            are open. A refused one counts for a second.""",
        ),
    ] = 15.0
    cache_refusals: Annotated[
        bool,
        Option(Switch(), """Whether an answer "deny" counts for as long as "allow" does, in both cases."""),
    ] = False
    tls: HttpTls = msgspec.field(default_factory=HttpTls)

    @property
    def has_https(self) -> bool:
        """Whether one of the addresses is of that kind."""
        paths = (self.user_path, self.vhost_path, self.resource_path, self.topic_path)
        return any(path.startswith(HTTPS) for path in paths)


class Auth(Section, frozen=True, kw_only=True):
    """Who may connect. The default user and virtual host are made at every start."""

    default_user: Annotated[
        str,
        Option(
            Text("a string of 1 to 255 bytes", 1, 255),
            """The name of the first user. It is made together with the default virtual host at every
            start, unless a command removed it.""",
        ),
    ] = "guest"
    default_pass: Annotated[
        str,
        Option(
            Text("a string of 1 to 4096 bytes", 1),
            """Its password. Set it before the broker accepts connections from other machines, preferably by
            the environment variable, which keeps it out of the file.""",
            secret=True,
        ),
    ] = "guest"  # noqa: S105  everybody knows it, and it is good on this machine only
    default_vhost: Annotated[
        str,
        Option(
            Text("a string of 1 to 255 bytes", 1, 255),
            """The name of the first virtual host. Clients that name none ask for "/".""",
        ),
    ] = "/"
    default_user_tags: Annotated[
        tuple[str, ...],
        Option(
            Texts(Text("a string of 1 to 255 bytes", 1, 255), "a list of distinct tags"),
            """The tags of the first user. They decide what it may see and change beside AMQP, and mean
            nothing to AMQP clients themselves: administrator, monitoring, policymaker, management.""",
        ),
    ] = ("administrator",)
    loopback_users: Annotated[
        tuple[str, ...],
        Option(
            Texts(Text("a string of 1 to 255 bytes", 1, 255), "a list of distinct user names"),
            """Users who may connect from this machine only. An empty list lets everybody in from
            everywhere, which is safe only if no user still has a well-known password.""",
        ),
    ] = ("guest",)
    mechanisms: Annotated[
        tuple[str, ...],
        Option(
            Mechanisms(),
            """The authentication mechanisms offered to clients, in this order. "PLAIN" and "AMQPLAIN" send the
            password in the clear, so use TLS or a trusted network. "EXTERNAL" goes by the client's
            certificate, and is offered only to clients that show one.""",
        ),
    ] = ("PLAIN", "AMQPLAIN")
    external_name: Annotated[
        str,
        Option(
            Choice("common_name", "distinguished_name"),
            """Which name of a client's certificate is the name of the user, for the mechanism EXTERNAL: the
            common name of its subject, or all of the subject.""",
        ),
    ] = "common_name"
    backends: Annotated[
        tuple[str, ...],
        Option(
            Backends(),
            """Who is asked whether user and password are right, in this order, until one says yes, and who then
            says what the user may do: "internal", the users and permissions of this broker; "http", the service
            of the section auth.http. "http+internal" asks the service about the login, and permissions here
            count; "internal+http" the other way round.""",
        ),
    ] = ("internal",)
    login_delay_max: Annotated[
        float,
        Option(
            Duration(0, 60),
            """How long a login waits at most before it is looked at, if there were wrong passwords before:
            from its address, or for its user. It slows down who guesses, and grows with each wrong password.
            No more than half of protocol.handshake_timeout counts; 0 lets nobody wait.""",
        ),
    ] = 3.0
    default_permissions: Permissions = msgspec.field(default_factory=Permissions)
    http: Http = msgspec.field(default_factory=Http)
