"""Stories for a broker in this process: made up, told again with the octets split elsewhere, and cut to the bone.

`Teller.story` makes one up while it happens, since what a client says next depends on what it was told. `told_again`
is the same from the data alone. A failure comes with the shortest story found that still fails in the same way.
"""

from __future__ import annotations

import random
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Final

from amqp_broker.session.connection import Connection
from tests.fuzz.house import Guest, House, Step, Story, no_chance
from tests.fuzz.judge import Illegal
from tests.fuzz.speech import Voice
from tests.fuzz.values import Values

VOICES: Final = 4
STEPS: Final = 400
# How often something other than a client moves.
ELSEWHERE: Final = 0.08
MOST_TRIES: Final = 400


class Failed(Exception):
    """A story did not end well. what: the same for two stories that fail in the same way."""

    def __init__(self, what: str, details: str, story: Story) -> None:
        super().__init__(what)
        self.what = what
        self.details = details
        self.story = story


def what_failed(error: BaseException) -> str:
    """The kind of an error and where it arose: in the broker if it was there, and without the numbers of the case."""
    frames = traceback.extract_tb(error.__traceback__)
    inside = [each for each in frames if "amqp_broker" in each.filename]
    at = (inside or frames)[-1]
    text = "".join(letter for letter in str(error).split(":")[0] if not letter.isdigit())
    return f"{type(error).__name__} in {at.name} ({at.filename.rpartition('/')[2]}): {text[:80]}"


class Teller:
    """kinds: inputs so far, by kind. errors: by reply code. again: the share of stories that are told twice."""

    def __init__(
        self, seed: int, connection: Callable[..., Connection] = Connection, again: float = 0.25
    ) -> None:
        self.seed = seed
        self.kinds: Counter[str] = Counter()
        self.errors: Counter[int] = Counter()
        self.stories = 0
        self.told_again = 0
        self.connections = 0
        self.octets = 0
        self.again = again
        self._connection = connection

    def story(self, number: int, steps: int = STEPS) -> Story:
        """Make story `number` up and have it happen, perhaps twice. Raises Failed."""
        draw = random.Random(f"{self.seed}:{number}")
        shape = draw.getrandbits(48)
        happened: list[Step] = []
        self.stories += 1
        with no_chance(shape):
            house = House(shape, self._connection)
            try:
                for step in self._plot(house, draw, steps):
                    happened.append(step)
                    getattr(house, step.do)(step)
            except Exception as error:
                raise self._failed(error, Story(shape, tuple(happened))) from error
            finally:
                for client in house.clients.values():
                    self._note(client)
        story = Story(shape, tuple(happened))
        if draw.random() < self.again:
            self.told_again += 1
            self._compare(story, house, draw)
        return story

    def _note(self, client: Guest) -> None:
        self.errors.update(client.judge.errors)

    def _failed(self, error: Exception, story: Story) -> Failed:
        return Failed(what_failed(error), "".join(traceback.format_exception(error)), story)

    def _plot(self, house: House, draw: random.Random, steps: int) -> Iterator[Step]:
        values = Values(draw)
        voices: dict[int, Voice] = {}
        serial = 0
        yield Step("furnish", number=draw.getrandbits(32))
        for at in range(steps):
            if draw.random() < ELSEWHERE:
                yield from self._elsewhere(draw)
            number = 1 + int(draw.random() * VOICES)
            voice = voices.get(number)
            if voice is None or voice.finished or house.clients[number].gone:
                serial += 1
                self.connections += 1
                if voice is not None:
                    yield Step("lose", number)
                    self._note(house.clients[number])
                    house.clients[number].judge.errors.clear()
                voice = voices[number] = Voice(values, wildness=draw.choice((0.05, 0.2, 0.6)))
                yield Step("dial", number, number=serial)
            yield from self._speak(number, voice, house.clients[number], draw)
            if at % 60 == 59:
                yield Step("check")
                yield Step("work")
        yield Step("check")
        yield Step("finish")

    def _speak(self, number: int, voice: Voice, client: Guest, draw: random.Random) -> Iterator[Step]:
        speech = voice.next()
        self.kinds[speech.kind] += 1
        self.octets += len(speech.octets)
        cuts = cuts_in(speech.octets, draw) if draw.random() < 0.1 else ()
        yield Step("say", number, speech.octets, cuts)
        if draw.random() < 0.8:
            yield Step("settle")
            for heard in client.judge.take():
                answer = voice.hear(*heard)
                if answer is not None:
                    self.kinds[answer.kind] += 1
                    yield Step("say", number, answer.octets)

    def _elsewhere(self, draw: random.Random) -> Iterator[Step]:
        at = draw.random()
        peer = 1 + draw.randrange(VOICES)
        if at < 0.2:
            yield Step("answer", number=draw.getrandbits(32))
        elif at < 0.45:
            self.kinds["commits"] += 1
            yield Step(draw.choice(("commit", "commit", "seal", "commit_oldest")))
        elif at < 0.65:
            self.kinds["time"] += 1
            yield Step("pass_time", number=draw.choice((1, 20, 100, 1000, 1000, 70_000)))
        elif at < 0.75:
            self.kinds["operations"] += 1
            yield Step("operate", number=draw.getrandbits(32))
        elif at < 0.8:
            self.kinds["lost sockets"] += 1
            yield Step("lose", peer)
        else:
            self.kinds["back-pressure"] += 1
            yield Step(
                draw.choice(("stick", "flow", "flow", "alarm", "all_clear", "all_clear", "relieve")), peer
            )

    def _compare(self, story: Story, house: House, draw: random.Random) -> None:
        """The same octets, split elsewhere, must be answered with the same octets."""
        other = Story(story.shape, tuple(recut(story.steps, draw)))
        heard = {number: b"".join(client.said) for number, client in house.clients.items()}
        try:
            again = told_again(other, self._connection)
        except Exception as error:
            raise self._failed(error, other) from error
        for number, client in again.clients.items():
            answered = b"".join(client.said)
            if answered != heard[number]:
                at = next(
                    (
                        at
                        for at, pair in enumerate(zip(answered, heard[number], strict=False))
                        if pair[0] != pair[1]
                    ),
                    0,
                )
                what = "the same octets split elsewhere are answered otherwise"
                details = (
                    f"{what}: client {number}, octet {at}:\n{heard[number][at - 40 : at + 200]!r}\nand\n"
                )
                raise Failed(what, details + f"{answered[at - 40 : at + 200]!r}", other)


def told_again(story: Story, connection: Callable[..., Connection] = Connection) -> House:
    with no_chance(story.shape):
        house = House(story.shape, connection)
        house.run(story.steps)
    return house


def recut(steps: tuple[Step, ...], draw: random.Random) -> Iterator[Step]:
    """The same steps with what is said split elsewhere, but while publishers are blocked: who is found in the middle
    of a message then is told so, wherever it stopped.
    """
    blocking = False
    for step in steps:
        blocking = step.do == "alarm" or (blocking and step.do not in ("all_clear", "work"))
        yield step if step.do != "say" or blocking else step._replace(cuts=other_cuts(step.octets, draw))


def other_cuts(octets: bytes, draw: random.Random) -> tuple[int, ...]:
    at = draw.random()
    if at < 0.35:
        return ()
    if at < 0.5 and len(octets) < 300:
        return tuple(range(1, len(octets)))
    return cuts_in(octets, draw)


def cuts_in(octets: bytes, draw: random.Random) -> tuple[int, ...]:
    """Places to split at: within a frame's head, behind it, before and after its end octet, and anywhere."""
    places: set[int] = set()
    at = 8 if octets[:4] == b"AMQP" else 0
    while at + 8 <= len(octets) and len(places) < 200:
        stop = at + 8 + int.from_bytes(octets[at + 3 : at + 7], "big")
        places.update((at, at + 1 + int(draw.random() * 6), at + 7, stop - 1, stop))
        at = stop
    places.update(int(draw.random() * (len(octets) + 1)) for _ in range(3))
    chosen = [place for place in places if 0 < place < len(octets) and draw.random() < 0.5]
    return tuple(sorted(chosen))


def shortest(failed: Failed, connection: Callable[..., Connection] = Connection) -> Story:
    """A shorter story that fails in the same way, found by leaving steps out and simplifying those that stay."""
    tries = 0

    def fails(steps: list[Step]) -> bool:
        nonlocal tries
        tries += 1
        try:
            told_again(Story(failed.story.shape, tuple(steps)), connection)
        except Exception as error:
            return what_failed(error) == failed.what
        return False

    steps = list(failed.story.steps)
    if not fails(steps):
        return failed.story
    size = len(steps) // 2
    while size and tries < MOST_TRIES:
        at = 0
        while at < len(steps) and tries < MOST_TRIES:
            fewer = steps[:at] + steps[at + size :]
            if fails(fewer):
                steps = fewer
            else:
                at += size
        size //= 2
    for at, step in enumerate(steps):
        if (
            step.cuts
            and tries < 2 * MOST_TRIES
            and fails([*steps[:at], step._replace(cuts=()), *steps[at + 1 :]])
        ):
            steps[at] = step._replace(cuts=())
    return Story(failed.story.shape, tuple(steps))


__all__ = ["Failed", "Illegal", "Teller", "shortest", "told_again"]
