"""Sessions whose logins are answered by the server's `Authentication`, without sockets, disk or a real clock.

Only its threads are real. `House.settled` waits for them; time goes on when a test lets it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import anyio

from amqp_broker.broker.access import Permission, User
from amqp_broker.broker.passwords import PasswordHash
from amqp_broker.config import Auth, Config
from amqp_broker.server.authentication import Authentication
from amqp_broker.server.clock import NANOSECONDS
from amqp_broker.store.errors import StoreError
from tests.server.moved_clock import MovedClock
from tests.session.world import PROTOCOL_HEADER, Peer, World

PATIENCE = 30.0
CAPABLE = {"capabilities": {"authentication_failure_close": True}}


class Turns:
    """What the authentication knows of `Commits`: when turns begin and end."""

    def __init__(self, world: World, clock: MovedClock) -> None:
        self.timer = self
        self.clients: dict[object, object] = {}
        self._world = world
        self._clock = clock

    def begin_turn(self) -> float:
        self._world.now = self._clock.monotonic()
        return self._world.now

    def finish_turn(self) -> None:
        self._world.end_turn()

    def release(self, connection: object) -> None:
        """Nobody has a socket here."""

    def give_up(self, error: StoreError) -> None:
        raise error


class House:
    """options: of the section `auth`. users: by `add`; guest is there with a digest as password."""

    def __init__(self, **options: Any) -> None:
        self.clock = MovedClock()
        self.world = World()
        self.clock.awake = round(self.world.now * NANOSECONDS)
        self.authentication = Authentication(
            self.world.broker,
            Turns(self.world, self.clock),  # type: ignore[arg-type]
            Config(auth=Auth(**options)),
            self.clock,
        )
        self.world.settings.authenticator = self.authentication
        self.workers = self.authentication._workers

    def add(self, name: str, password: PasswordHash) -> User:
        """A user who lasts, and may do everything."""
        user = self.world.broker.put_user(name, password, [], {})
        self.world.broker.permit(user, "/", Permission(".*", ".*", ".*"))
        return user

    def ask(self, user: str, password: str, address: str = "") -> Peer:
        """A client that has just sent its name and password."""
        peer = self.world.dial(from_loopback=not address)
        if address:
            peer.connection.name = f"{address}:{40000 + len(self.world.peers)} -> 10.0.0.1:5672"
        peer.say(PROTOCOL_HEADER)
        peer.take()
        return peer.send(
            0,
            "connection.start-ok",
            client_properties=CAPABLE,
            mechanism="PLAIN",
            response=f"\0{user}\0{password}",
        )

    async def login(self, user: str, password: str, address: str = "") -> str:
        """What comes of it: "in", or the reason in the log."""
        return await self.outcome(self.ask(user, password, address))

    async def outcome(self, peer: Peer) -> str:
        await self.until(lambda: answered(peer))
        return "in" if peer.connection.user is not None else str(peer.connection.close_reason)

    async def until(self, condition: Callable[[], bool]) -> None:
        with anyio.fail_after(PATIENCE):
            while not condition():  # noqa: ASYNC110  a thread has no event to set
                await anyio.sleep(0.001)

    async def settled(self) -> None:
        """Every thread has done what there was to do."""
        await self.until(lambda: self.workers.idle)

    async def advance(self, seconds: float) -> None:
        await self.clock.advance(seconds)
        self.world.now = self.clock.monotonic()


def answered(peer: Peer) -> bool:
    return peer.connection.question is None
