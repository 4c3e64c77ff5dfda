"""A living broker with hostile clients on its sockets, and a neighbour that must not notice them.

A `Battle` owns a broker process. In each batch a crowd of `Voice`s talks to it at once, in pieces of any size, and
then goes, politely or not; after each batch the neighbour publishes, consumes and confirms, and the books are looked
at: file descriptors, memory, the log, and at the end of a round the exit status and the data directory.
"""

from __future__ import annotations

import errno
import os
import random
import socket
import struct
import subprocess
import time
from collections import Counter, deque
from pathlib import Path
from typing import Any, Final

from tests.fuzz.house import Step, Story
from tests.fuzz.judge import Illegal, Judge
from tests.fuzz.phrases import PROTOCOL_HEADER, frame, method
from tests.fuzz.speech import Voice
from tests.fuzz.values import DECLARED, QUEUES, U16, U32, U64, Values, long, short
from tests.server.broker_process import BrokerFailed, BrokerProcess, installed_command

CROWD: Final = 24
SPEECHES: Final = 2000
PATIENCE: Final = 30.0
# How much more memory a broker may have at the end of a round than when it was warm, octets.
MORE_MEMORY: Final = 96 << 20
WARM: Final = 3
CONFIGURATION: Final = """
[auth]
login_delay_max = 0
loopback_users = []
[limits]
memory_high_watermark_relative = 0.0
disk_free_limit = 0
[listeners]
proxy_protocol = {proxy}
"""
PROXY_HEADERS: Final = (
    b"PROXY TCP4 192.0.2.1 192.0.2.2 40000 5672\r\n",
    b"PROXY UNKNOWN\r\n",
    b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xc0\0\2\1\xc0\0\2\2\x9c\x40\x16\x28",
    b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0",
)
GONE: Final = frozenset((errno.ECONNRESET, errno.EPIPE, errno.ENOTCONN, errno.ECONNABORTED))


class Lost(Exception):
    """A battle was lost. what: how; story: the batch's octets, to be tried in one process."""

    def __init__(self, what: str, story: Story) -> None:
        super().__init__(what)
        self.story = story


class Hostile:
    """One client of the crowd. unsent: what it has said and the socket has not taken."""

    def __init__(self, port: int, voice: Voice, proxied: bytes) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)
        self.socket.setblocking(False)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.voice = voice
        self.judge = Judge()
        self.unsent = bytearray()
        self.open = True
        self.said: list[bytes] = []
        # What of it is whole on its way when so many octets are: kinds of inputs.
        self.whole: deque[tuple[int, str]] = deque()
        self.sent = 0
        self.queues: set[str] = set()
        if proxied:
            self.say("PROXY headers", proxied)

    def say(self, kind: str, octets: bytes) -> None:
        self.unsent += octets
        self.whole.append((self.sent + len(self.unsent), kind))

    def send(self, most: int, kinds: Counter[str]) -> None:
        """Have the socket take some of it."""
        if not self.unsent or not self.open:
            return
        try:
            count = self.socket.send(self.unsent[:most])
        except BlockingIOError:
            return
        except OSError as error:
            self._ended(error)
            return
        self.said.append(bytes(self.unsent[:count]))
        del self.unsent[:count]
        self.sent += count
        while self.whole and self.whole[0][0] <= self.sent:
            kinds[self.whole.popleft()[1]] += 1

    def read(self) -> None:
        """Hear what there is, and say what has to be said to it. Raises Illegal."""
        while self.open:
            try:
                octets = self.socket.recv(262144)
            except BlockingIOError:
                return
            except OSError as error:
                self._ended(error)
                return
            if not octets:
                self.judge.end()
                self.open = False
                return
            self.judge.frame_max = max(self.voice.frame_max, 131072)
            self.judge.hear(octets)
            for heard in self.judge.take():
                if heard.name == "queue.declare-ok":
                    self.queues.add(heard.arguments["queue"])
                answer = self.voice.hear(*heard)
                if answer is not None:
                    self.say(*answer)

    def _ended(self, error: OSError) -> None:
        if error.errno not in GONE:
            raise error
        self.open = False

    def leave(self, *, politely: bool) -> None:
        if not politely:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()


class Neighbour:
    """A client that does everything right, with a queue of its own."""

    def __init__(self, port: int, proxied: bytes = b"") -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)
        self.judge = Judge()
        self.bodies = 0
        self.slowest = 0.0
        login = b"\0\0\0\0" + short(b"PLAIN") + long(b"\0guest\0guest") + short(b"en_US")
        said = PROTOCOL_HEADER + method(0, "connection.start-ok", login)
        self._ask(proxied + said, "connection.tune")
        limits = U16(2047) + U32(131072) + b"\0\0"
        said = method(0, "connection.tune-ok", limits) + method(0, "connection.open", b"\1/\0\0")
        self._ask(said, "connection.open-ok")
        self._ask(method(1, "channel.open", b"\0") + method(1, "confirm.select", b"\0"), "confirm.select-ok")
        self._ask(method(1, "queue.declare", b"\0\0\x09neighbour\2\0\0\0\0"), "queue.declare-ok")
        self._ask(method(1, "queue.purge", b"\0\0\x09neighbour\0"), "queue.purge-ok")
        self._ask(method(1, "basic.consume", b"\0\0\x09neighbour\0\0\0\0\0\0"), "basic.consume-ok")

    def work(self) -> None:
        """Publish, be confirmed, get the message and acknowledge it; then ask for something. Raises Illegal."""
        began = time.monotonic()
        self.bodies += 1
        body = b"%d" % self.bodies
        said = method(1, "basic.publish", b"\0\0\0\x09neighbour\1")
        said += frame(2, 1, b"\0\x3c\0\0" + U64(len(body)) + b"\x10\0\2") + frame(3, 1, body)
        heard = self._ask(said, "basic.ack", "basic.deliver")
        tag = next(each for each in heard if each.name == "basic.deliver").arguments["delivery_tag"]
        said = method(1, "basic.ack", U64(tag) + b"\0") + method(
            1, "queue.declare", b"\0\0\x09neighbour\2\0\0\0\0"
        )
        counted = self._ask(said, "queue.declare-ok")
        if len(heard) != 2 or counted[-1].arguments["message_count"]:
            raise Illegal(f"the neighbour heard {heard} and {counted}")
        self.slowest = max(self.slowest, time.monotonic() - began)

    def clean_up(self, queues: set[str]) -> None:
        """Delete what the others left, on a channel that a mistake may cost."""
        for name in [*queues, *(name.decode() for name in QUEUES)]:
            octets = short(name.encode("utf-8", "surrogateescape"))
            self._give_up(method(2, "queue.delete", b"\0\0" + octets + b"\0"), "queue.delete-ok")
        for exchange in DECLARED:
            self._give_up(
                method(2, "exchange.delete", b"\0\0" + short(exchange) + b"\0"), "exchange.delete-ok"
            )

    def _give_up(self, said: bytes, answer: str) -> None:
        heard = self._ask(method(2, "channel.open", b"\0") + said, answer, or_else="channel.close")
        if heard[-1].name == answer:
            self._ask(method(2, "channel.close", b"\0\0\0\0\0\0\0"), "channel.close-ok")
        else:
            self.socket.sendall(method(2, "channel.close-ok"))

    def _ask(self, said: bytes, *answers: str, or_else: str = "") -> list[Any]:
        """Say something and hear all these answers. Raises Illegal, also if they do not come in time."""
        self.socket.sendall(said)
        heard: list[Any] = []
        while True:
            heard += [each for each in self.judge.take() if each.name != "heartbeat"]
            names = {each.name for each in heard}
            if names.issuperset(answers) or or_else in names:
                return heard
            try:
                octets = self.socket.recv(65536)
            except TimeoutError:
                raise Illegal(f"the neighbour waits for {answers} and has heard {heard}") from None
            if not octets:
                raise Illegal(f"the neighbour waits for {answers}, has heard {heard}, and is disconnected")
            self.judge.hear(octets)


class Battle:
    """kinds, errors: as for a Teller. Batches have their own draws; their timing nobody can repeat."""

    def __init__(self, directory: Path, seed: int) -> None:
        self.seed = seed
        self.kinds: Counter[str] = Counter()
        self.errors: Counter[int] = Counter()
        self.connections = 0
        self.octets = 0
        self.batches = 0
        self.rounds = 0
        self.slowest = 0.0
        self.most_memory = 0
        self.broker = BrokerProcess(directory / "data")
        self._configuration = directory / "broker.toml"
        self._warm = 0
        self._idle = 0
        self._queues: set[str] = set()
        self._neighbour: Neighbour | None = None
        self._proxy = False
        self._log_seen = 0

    # -- rounds

    def begin(self, number: int) -> None:
        """Start the broker, in every fourth round behind a proxy."""
        self._proxy = number % 4 == 3
        self._configuration.write_text(CONFIGURATION.format(proxy=str(self._proxy).lower()))
        self.broker.arguments = ["--config", str(self._configuration)]
        self.broker.start()
        try:
            self._neighbour = Neighbour(self.broker.port, PROXY_HEADERS[0] if self._proxy else b"")
        except AssertionError as error:
            raise Lost(f"{error}\n{self._log()}", Story(0, ())) from error
        self._idle = self._descriptors()
        self._warm = 0
        self.rounds += 1

    def end(self) -> None:
        """Have it go in good order. Raises Lost."""
        assert self._neighbour is not None
        nothing = Story(0, ())
        try:
            self._neighbour.clean_up(self._queues)
            self._queues.clear()
            self._settle_down()
            self.slowest = max(self.slowest, self._neighbour.slowest)
            self._neighbour.socket.close()
            status = self.broker.stop()
        except (AssertionError, BrokerFailed) as error:
            raise Lost(f"{error}", nothing) from error
        if status:
            raise Lost(f"the broker ended with status {status}", nothing)
        self._look_at_log(nothing)
        command = [*installed_command(), "verify", str(self.broker.data)]
        ran = subprocess.run(command, capture_output=True, text=True, check=False)
        if ran.returncode:
            raise Lost(f"the data directory is damaged:\n{ran.stdout}{ran.stderr}", nothing)

    def close(self) -> None:
        if self._neighbour is not None:
            self._neighbour.socket.close()
        self.broker.kill()

    # -- batches

    def batch(self, number: int, speeches: int = SPEECHES) -> None:
        """A crowd comes, talks and goes. Raises Lost."""
        assert self._neighbour is not None
        draw = random.Random(f"sockets {self.seed}:{number}")
        crowd: list[Hostile] = []
        everybody: list[Hostile] = []
        self.batches += 1
        try:
            try:
                self._talk(draw, crowd, everybody, speeches)
            finally:
                for hostile in crowd:
                    hostile.leave(politely=draw.random() < 0.5)
                for hostile in everybody:
                    self.octets += hostile.sent
                    self.errors.update(hostile.judge.errors)
                    self._queues |= hostile.queues
            self._neighbour.work()
            if self.batches % 8 == 0:
                self._neighbour.clean_up(self._queues)
                self._queues.clear()
        except (AssertionError, OSError) as error:
            raise Lost(f"batch {number}: {error!r}\n{self._log()}", told(everybody)) from error
        if not self.broker.running:
            raise Lost(f"batch {number}: the broker has ended:\n{self._log()}", told(everybody))
        self._look_at_log(told(everybody))
        self._warm += 1
        if self._warm == WARM:
            self.most_memory = self._memory()

    def _talk(
        self, draw: random.Random, crowd: list[Hostile], everybody: list[Hostile], speeches: int
    ) -> None:
        values = Values(draw)
        for at in range(speeches):
            while len(crowd) < CROWD:
                hostile = self._newcomer(values)
                crowd.append(hostile)
                everybody.append(hostile)
            hostile = values.one(crowd)
            if values.random() < 0.8:
                # Some do not read for a while.
                hostile.read()
            if len(hostile.unsent) < 100_000:
                hostile.say(*hostile.voice.next())
            if values.random() < 0.7:
                hostile.send(values.one((1, 2, 7, 30, 1 << 20, 1 << 20)), self.kinds)
            if at % 100 == 0 or not hostile.open or (hostile.voice.finished and not hostile.unsent):
                self._make_way(crowd, values)
        deadline = time.monotonic() + 2
        while any(hostile.open and hostile.unsent for hostile in crowd) and time.monotonic() < deadline:
            for hostile in crowd:
                hostile.send(1 << 20, self.kinds)
                hostile.read()

    def _make_way(self, crowd: list[Hostile], values: Values) -> None:
        for hostile in list(crowd):
            hostile.send(1 << 20, self.kinds)
            hostile.read()
            if not hostile.open or (hostile.voice.finished and values.chance(0.7)) or values.chance(0.02):
                hostile.leave(politely=values.chance(0.5))
                crowd.remove(hostile)

    def _newcomer(self, values: Values) -> Hostile:
        self.connections += 1
        proxied = b""
        if self._proxy:
            proxied = values.one(PROXY_HEADERS)
            if values.chance(0.15):
                proxied = values.garbled(proxied)
        return Hostile(self.broker.port, Voice(values, wildness=values.one((0.05, 0.2, 0.6))), proxied)

    # -- what is left

    def _settle_down(self) -> None:
        """File descriptors and memory come back, in a while. Raises Illegal."""
        deadline = time.monotonic() + PATIENCE
        while True:
            descriptors, memory = self._descriptors(), self._memory()
            if descriptors <= self._idle and (self._warm < WARM or memory <= self.most_memory + MORE_MEMORY):
                return
            if time.monotonic() > deadline:
                raise Illegal(
                    f"{descriptors} file descriptors are open, {self._idle} were; "
                    f"{memory >> 20} MiB of memory are taken, {self.most_memory >> 20} were"
                )
            time.sleep(0.05)

    def _descriptors(self) -> int:
        return len(os.listdir(f"/proc/{self.broker.pid}/fd"))

    def _memory(self) -> int:
        return int(Path(f"/proc/{self.broker.pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    def _log(self) -> str:
        return self.broker.log.read_bytes()[-3000:].decode(errors="replace")

    def _look_at_log(self, story: Story) -> None:
        with self.broker.log.open("rb") as file:
            # A little of what was seen is looked at again, as a line may have been half there.
            file.seek(max(0, self._log_seen - 1000))
            log = file.read().decode(errors="replace")
            self._log_seen = file.tell()
        for sign in ("Traceback", "internal error"):
            if sign in log:
                at = log.index(sign)
                raise Lost(f"{sign} in the log:\n{log[max(0, at - 500) : at + 3000]}", story)


def told(everybody: list[Hostile]) -> Story:
    """What each of the crowd said, one after another, as a story for one process: it may fail there, too."""
    steps: list[Step] = []
    for number, hostile in enumerate(everybody, 1):
        steps.append(Step("dial", number, number=number))
        steps += [Step("say", number, octets) for octets in hostile.said]
        steps.append(Step("settle"))
        steps.append(Step("lose", number))
    return Story(0, (*steps, Step("finish")))
