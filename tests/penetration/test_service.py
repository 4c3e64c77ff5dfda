"""To be let in by the service that is asked over HTTP, other than by its yes."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from tests.conversations.client import Channel
from tests.penetration.conftest import CALM
from tests.penetration.site import Site, closed, plain, refused
from tests.penetration.test_administration import administer
from tests.penetration.test_logins import is_refused
from tests.server.secure import Authority

Values = dict[str, list[str]]


class Handler(BaseHTTPRequestHandler):
    server: Service

    def do_POST(self) -> None:
        form = self.rfile.read(int(self.headers["Content-Length"])).decode("utf-8", "surrogateescape")
        path = urlsplit(self.path).path
        values = parse_qs(form, keep_blank_values=True, errors="surrogateescape")
        self.server.asked.append((path, values))
        self.server.answer(self, path, values)

    def says(self, status: int, text: str, **headers: str) -> None:
        body = text.encode()
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        return


class Service(ThreadingHTTPServer):
    """asked: path and values of each request. answer: what it does about one; by itself it lets "carol" do anything."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked: list[tuple[str, Values]] = []
        self.answer: Callable[[Handler, str, Values], None] = carol_only


def carol_only(handler: Handler, path: str, values: Values) -> None:
    handler.says(200, "allow" if values.get("username") == ["carol"] else "deny")


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    with Service() as running:
        thread = threading.Thread(target=running.serve_forever, args=(0.01,))
        thread.start()
        yield running
        running.shutdown()
        thread.join()


@pytest.fixture(scope="module")
def asking(folder: Path, authority: Authority, service: Service) -> Iterator[Site]:
    """A broker that asks the service about everything, and keeps no answer for long."""
    url = f"http://127.0.0.1:{service.server_port}"
    paths = "".join(f'{name}_path = "{url}/{name}"\n' for name in ("user", "vhost", "resource", "topic"))
    more = (
        f'{CALM}backends = ["http"]\n[auth.http]\nmethod = "post"\ncache = "0s"\ncache_rights = "1s"\n{paths}'
    )
    with Site(folder / "asking", authority, more) as running:
        yield running


@pytest.fixture(autouse=True)
def gone_afterwards(asking: Site, service: Service) -> Iterator[None]:
    yield
    asking.hang_up()
    service.answer = carol_only
    service.asked.clear()


@pytest.mark.parametrize(
    "name",
    [
        "mallory&username=carol",
        "mallory\r\nusername: carol",
        "carol&",
        "carol\0",
        "carol%00",
        "carol#",
        "carol;",
        "+carol",
    ],
)
def test_a_name_is_one_value_whatever_it_holds(asking: Site, service: Service, name: str) -> None:
    """It comes to the service as it was said, and brings no parameter of its own."""
    if "\0" in name:
        assert asking.asks_in(plain(name, "x")) == ""
        assert service.asked == []
        return
    assert is_refused(asking.asks_in(plain(name, "x")))
    assert service.asked[0] == ("/user", {"username": [name], "password": ["x"]})


def test_names_of_queues_bring_no_parameters_of_their_own(asking: Site, service: Service) -> None:
    channel = asking.channel("carol")
    name = "q&permission=read&name=other&username=mallory"
    channel.declare(name, exclusive=True)
    asked = [values for path, values in service.asked if path == "/resource"]
    assert asked
    assert all(values["name"] == [name] and values["username"] == ["carol"] for values in asked)
    assert {tuple(values["permission"]) for values in asked} == {("configure",)}


@pytest.mark.parametrize(
    ("status", "text"),
    [
        (200, ""),
        (200, "allowed"),
        (200, "deny allow"),
        (500, "allow"),
        (403, "allow"),
        (200, "{'result': 'allow'}"),
    ],
)
def test_what_is_no_yes_lets_nobody_in(asking: Site, service: Service, status: int, text: str) -> None:
    service.answer = lambda handler, path, values: handler.says(status, text)
    assert asking.asks_in(plain("carol")) != "in"


def test_a_redirection_is_no_yes_and_takes_the_password_nowhere(asking: Site, service: Service) -> None:
    def elsewhere(handler: Handler, path: str, values: Values) -> None:
        if path == "/elsewhere":
            handler.says(200, "allow")
        else:
            handler.says(302, "allow", Location="/elsewhere")

    service.answer = elsewhere
    assert asking.asks_in(plain("carol")) == ""
    assert [path for path, _ in service.asked] == ["/user"]


def test_an_answer_without_end_is_cut_off(asking: Site, service: Service) -> None:
    def endless(handler: Handler, path: str, values: Values) -> None:
        handler.says(200, "x" * 3_000_000, **{"Content-Length": "99999999999"})

    service.answer = endless
    assert asking.asks_in(plain("carol")) == ""


def test_the_users_and_rights_here_count_for_nothing_where_the_service_is_asked_alone(asking: Site) -> None:
    assert is_refused(asking.asks_in(plain("alice")))
    assert is_refused(asking.asks_in(plain("guest")))


def test_a_yes_about_the_login_is_none_about_the_rest(asking: Site, service: Service) -> None:
    def login_only(handler: Handler, path: str, values: Values) -> None:
        handler.says(200, "allow" if path == "/user" else "deny")

    service.answer = login_only
    client = asking.dial()
    client.log_in(response=plain("carol"))
    client.send(0, "connection.tune-ok", **client.tune)
    client.send(0, "connection.open", virtual_host="/")
    closed(client, 530)


def test_what_is_sent_behind_a_question_waits_for_its_answer(asking: Site, service: Service) -> None:
    """A publish to an exchange that the service denies, and all the rest in the same breath."""

    def no_secret(handler: Handler, path: str, values: Values) -> None:
        handler.says(200, "deny" if values.get("name") == ["amq.fanout"] else "allow")

    channel: Channel = asking.channel("carol")
    queue = channel.declare("", exclusive=True)
    channel.bind(queue, "amq.fanout")
    service.answer = no_secret
    for _ in range(3):
        channel.publish(b"x", exchange="amq.fanout")
        channel.send("queue.declare", queue="behind-the-question")
        assert refused(channel, 403).startswith("access to exchange 'amq.fanout'")
    channel.send("queue.declare", queue="behind-the-question", passive=True)
    refused(channel, 404)
    assert channel.counts(queue) == (0, 0)


# -- users of the broker whose rights the service knows


@pytest.fixture(scope="module")
def both(folder: Path, authority: Authority, service: Service) -> Iterator[Site]:
    url = f"http://127.0.0.1:{service.server_port}"
    paths = "".join(f'{name}_path = "{url}/{name}"\n' for name in ("user", "vhost", "resource", "topic"))
    more = f'{CALM}backends = ["internal+http"]\n[auth.http]\nmethod = "post"\n{paths}'
    with Site(folder / "both", authority, more) as running:
        yield running


def yes_to_all(handler: Handler, path: str, values: Values) -> None:
    handler.says(200, "allow")


def test_a_tag_that_goes_is_gone_although_the_service_knows_the_rights(both: Site, service: Service) -> None:
    service.answer = yes_to_all
    channel = both.channel("boss")
    channel.publish(b"x", exchange="amq.fanout", user_id="alice")
    channel.hears_nothing()
    administer(both, "users.set_tags", name="boss", tags=["administrator"])
    channel.publish(b"x", exchange="amq.fanout", user_id="alice")
    refused(channel, 406)
    both.hang_up()


def test_who_was_deleted_here_opens_nothing_although_the_service_says_yes(
    both: Site, service: Service
) -> None:
    service.answer = yes_to_all
    client = both.dial()
    client.log_in(response=plain("stranger"))
    administer(both, "users.delete", name="stranger")
    client.send(0, "connection.tune-ok", **client.tune)
    client.send(0, "connection.open", virtual_host="/")
    assert closed(client, 530) == "access to vhost '/' refused for user 'stranger'"
    both.hang_up()
