"""A short run of each fuzzer; and that each finds what is planted for it, says how to repeat it, and repeats it."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings, target
from hypothesis import strategies as st

from amqp_broker.broker.consumer import Consumer
from tests.conversations.codec import METHODS
from tests.examples import examples
from tests.fuzz import __main__ as command
from tests.fuzz import decoders, sockets
from tests.fuzz.decoders import BY_KIND, DECODERS, Decoder, Decoding, Undecoded, fewest, heard
from tests.fuzz.house import House, Step, Story
from tests.fuzz.judge import Illegal, Judge
from tests.fuzz.phrases import PROTOCOL_HEADER, frame, method
from tests.fuzz.sockets import Battle, Lost
from tests.fuzz.speech import Voice
from tests.fuzz.stories import Failed, Teller, shortest, told_again
from tests.fuzz.values import U16, U64, Values, long, short

# pamqp warns of methods that clients may all the same send.
pytestmark = pytest.mark.filterwarnings("ignore:This command is deprecated:DeprecationWarning")

SEEDS = (1, 20, 300, 4000)
STORIES = 3
ENTRY = (
    PROTOCOL_HEADER,
    method(0, "connection.start-ok", b"\0\0\0\0\5PLAIN" + long(b"\0guest\0guest") + b"\0"),
    method(0, "connection.tune-ok", U16(7) + b"\0\0\x10\0\0\0"),
    method(0, "connection.open", b"\1/\0\0"),
)


# -- short runs


@pytest.mark.parametrize("seed", SEEDS)
def test_stories_end_well_and_whatever_way_octets_are_split(seed: int) -> None:
    teller = Teller(seed, again=1.0)
    for number in range(STORIES):
        teller.story(number, 200)
    assert teller.told_again == STORIES
    assert teller.connections > 10
    assert teller.errors.total() > 10, "nobody did anything wrong"


@pytest.mark.parametrize("seed", SEEDS)
def test_decoders_raise_what_they_say_and_nothing_else(seed: int) -> None:
    decoding = Decoding(seed)
    decoding.batch(0, 600)
    assert set(decoding.kinds) == {f"decoder: {decoder.kind}" for decoder in DECODERS}


@settings(max_examples=examples(60))
@given(
    decoder=st.sampled_from(DECODERS),
    seed=st.integers(0, 1 << 32),
    changes=st.lists(st.tuples(st.integers(0, 4096), st.integers(0, 255)), max_size=8),
)
def test_decoders_stand_what_is_changed_in_octets(
    decoder: Decoder, seed: int, changes: list[tuple[int, int]]
) -> None:
    octets = bytearray(decoder.some(Values(random.Random(seed))))
    for at, value in changes:
        if octets:
            octets[at % len(octets)] = value
    if decoder.kind == "streams":
        # The further it gets in a stream, the more there is to be found.
        target(float(len(heard([bytes(octets)])[0])))
    decoder.attempt(bytes(octets))


@pytest.fixture
def battle(tmp_path: Path) -> Iterator[Battle]:
    made = Battle(tmp_path, SEEDS[0])
    yield made
    made.close()


@pytest.mark.parametrize("number", [0, 3])
def test_a_crowd_on_sockets_harms_neither_the_broker_nor_the_neighbour(battle: Battle, number: int) -> None:
    """Round 3 is behind a proxy."""
    battle.begin(number)
    for batch in range(2):
        battle.batch(batch, 400)
    battle.end()
    assert battle.kinds.total() > 400
    assert (battle.kinds["PROXY headers"] > 0) == (number == 3)


# -- what is planted is found


def leaking(house: House, step: Step) -> None:
    """A socket is lost, and one consumer of it stays in its queue."""
    client = house.clients.get(step.peer)
    consumers: list[Consumer] = []
    if client is not None:
        for channel in client.connection.channels.values():
            consumers += channel.consumers.values()
    LOSE(house, step)
    for consumer in consumers[:1]:
        consumer.queue.add_consumer(consumer)


LOSE = House.lose
RECEIVE = House._receive


def first_failure(teller: Teller) -> Failed:
    for number in range(60):
        try:
            teller.story(number)
        except Failed as failed:
            return failed
    raise AssertionError("nothing was found")


def test_a_broker_that_leaks_a_consumer_is_found_in_a_few_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(House, "lose", leaking)
    failed = first_failure(Teller(1, again=0.0))
    assert "consumers of" in failed.details
    story = shortest(failed)
    assert len(story.steps) < 40 < len(failed.story.steps)
    with pytest.raises(Illegal, match="consumers of"):
        told_again(story)
    monkeypatch.setattr(House, "lose", LOSE)
    told_again(story)


def test_a_broker_that_splits_confuse_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """It loses an octet that comes alone in the middle of a method."""

    def careless(house: House, connection: object, octets: bytes) -> None:
        if len(octets) != 1 or octets == b"\xce":
            RECEIVE(house, connection, octets)  # type: ignore[arg-type]

    monkeypatch.setattr(House, "_receive", careless)
    assert first_failure(Teller(1, again=1.0)).story.steps


def test_a_broker_that_fails_is_found_with_the_place_where_it_did(monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(house: House, step: Step) -> None:
        raise ZeroDivisionError("planted")

    monkeypatch.setattr(House, "alarm", failing)
    failed = first_failure(Teller(1, again=0.0))
    assert failed.what.startswith("ZeroDivisionError in failing (test_fuzz.py)")


def planted(octets: bytes) -> None:
    if octets.find(b"S") > 2:
        raise IndexError("planted")


def test_a_decoder_that_raises_is_found_with_the_fewest_octets(monkeypatch: pytest.MonkeyPatch) -> None:
    table = Decoder("tables", decoders.some_table, planted)
    monkeypatch.setattr(decoders, "DECODERS", (table,))
    monkeypatch.setitem(BY_KIND, "tables", table)
    with pytest.raises(Undecoded, match="IndexError in planted") as found:
        Decoding(1).batch(0)
    octets = fewest(found.value)
    assert len(octets) == 4
    assert octets.endswith(b"S")


def test_a_traceback_in_the_log_is_found(battle: Battle) -> None:
    battle.begin(0)
    with battle.broker.log.open("a") as log:
        log.write("Traceback (most recent call last):\n")
    with pytest.raises(Lost, match="Traceback in the log"):
        battle.batch(0, 20)


def test_a_descriptor_that_does_not_come_back_is_found(
    battle: Battle, monkeypatch: pytest.MonkeyPatch
) -> None:
    battle.begin(0)
    monkeypatch.setattr(sockets, "PATIENCE", 0.2)
    with sockets.socket.create_connection(("127.0.0.1", battle.broker.port)) as idle:
        idle.sendall(PROTOCOL_HEADER)
        assert idle.recv(1)
        with pytest.raises(Lost, match="file descriptors are open"):
            battle.end()


def test_a_broker_that_is_gone_is_found(battle: Battle) -> None:
    battle.begin(0)
    battle.broker.kill()
    with pytest.raises(Lost, match="batch 0"):
        battle.batch(0, 20)


# -- the command


def test_the_command_says_what_it_tried(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    status = command.main(["--seed", "5", "--stories", "2", "--output", str(tmp_path / "none")])
    printed = capsys.readouterr().out
    rows = dict(re.findall(r"^\| ([^|]+) \| ([\d,]+) \|$", printed, re.MULTILINE))
    assert status == 0
    assert int(rows["**sessions and decoders**: inputs"].replace(",", "")) > 500
    assert rows["stories"] == "2"
    assert any(row.startswith("answered ") for row in rows)
    assert printed.endswith("bugs: 0\n")
    assert not (tmp_path / "none").exists()


def test_the_command_repeats_what_it_found(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    output = tmp_path / "failure.json"
    monkeypatch.setattr(House, "lose", leaking)
    status = command.main(["--seed", "1", "--duration", "30", "--output", str(output)])
    printed = capsys.readouterr().err
    assert status == 1
    assert f"again: python -m tests.fuzz --replay {output}" in printed
    assert printed.endswith("seed 1\n")
    with pytest.raises(Illegal, match="consumers of"):
        command.main(["--replay", str(output)])
    monkeypatch.setattr(House, "lose", LOSE)
    assert command.main(["--replay", str(output)]) == 0


def test_a_story_is_the_same_when_it_was_written_down() -> None:
    story = Teller(5).story(0, 100)
    assert Story.from_json(json.loads(json.dumps(story.to_json()))) == story


def test_what_a_seed_makes_up_is_always_the_same() -> None:
    assert Teller(5).story(3, 100) == Teller(5).story(3, 100)
    assert Teller(5).story(3, 100) != Teller(6).story(3, 100)


# -- the judge

OPEN = (
    frame(1, 0, b"\0\x0a\0\x0a\0\x09" + long(b"") * 3)
    + method(0, "connection.tune", bytes(8))
    + method(0, "connection.open-ok", b"\0")
    + method(1, "channel.open-ok", long(b""))
)
DELIVER = method(1, "basic.deliver", b"\1t" + U64(1) + b"\0\0\0")
HEADER = frame(2, 1, b"\0\x3c\0\0" + U64(3) + b"\0\0")
CLOSE = b"\1\x94" + short(b"NOT_FOUND - x") + b"\0\0\0\0"


def test_the_judge_takes_what_a_broker_may_say() -> None:
    judge = Judge()
    said = OPEN + DELIVER + HEADER + frame(3, 1, b"ab") + frame(3, 1, b"c") + frame(8, 0, b"")
    said += method(1, "channel.close", CLOSE) + method(1, "channel.open-ok", long(b""))
    for at in range(0, len(said), 5):
        judge.hear(said[at : at + 5])
    judge.end()
    assert judge.errors == {404: 1}
    assert [each.name for each in judge.take()][-3:] == ["basic.deliver", "channel.close", "channel.open-ok"]


@pytest.mark.parametrize(
    ("said", "complaint"),
    [
        (OPEN + frame(4, 1, b""), "a frame of type 4"),
        (OPEN + frame(1, 1, b"\0\x14\0\x0b")[:-1] + b"x", "a frame that ends with"),
        (OPEN + frame(1, 1, b"\0\x63\0\x63"), "a method that cannot be read"),
        (OPEN + method(1, "basic.qos-ok", b"x"), "a method that cannot be read"),
        (OPEN + method(1, "queue.bind", b"\0\0\0\0\0\0" + long(b"")), "queue.bind from a broker"),
        (OPEN + method(2, "basic.qos-ok"), "channel 2, which is not open"),
        (OPEN + method(1, "connection.close-ok"), "connection.close-ok on channel 1"),
        (method(0, "connection.open-ok", b"\0"), "connection.open-ok as step 0"),
        (OPEN + DELIVER + method(1, "basic.qos-ok"), "in the middle of content"),
        (OPEN + DELIVER + frame(3, 1, b"x"), "where none is due"),
        (OPEN + HEADER, "where none is due"),
        (OPEN + DELIVER + HEADER + frame(3, 1, b"abcd"), "a body frame of 4 octets where 3 are due"),
        (OPEN + DELIVER + frame(2, 1, b"\0\x3c\0\0" + U64(3) + b"\x20\0"), "header that cannot be read"),
        (OPEN + method(1, "basic.deliver", b"\1t" + U64(2) + b"\0\0\0"), "has tag 2 after 0"),
        (OPEN + method(1, "channel.close", b"\1\xf5" + CLOSE[2:]), "a close with the code 501"),
        (OPEN + method(1, "channel.close", b"\1\x94\1x\0\0\0\0"), "with the text 'x'"),
        (OPEN + method(0, "connection.close", b"\1\x94" + CLOSE[2:]), "a close with the code 404"),
        (OPEN + method(1, "channel.close", CLOSE) + method(1, "basic.qos-ok"), "which is not open"),
        (OPEN + method(0, "connection.close-ok") + method(1, "basic.qos-ok"), "after its close"),
        (OPEN + method(1, "basic.ack", U64(2) + b"\0"), "after 0 were confirmed"),
        (OPEN + method(1, "basic.ack", U64(1) + b"\0") * 2, "after 1 were confirmed"),
        (OPEN + method(1, "basic.nack", U64(0) + b"\1"), "after 0 were confirmed"),
        (OPEN + frame(8, 1, b""), "a heartbeat on channel 1"),
        (OPEN + frame(1, 1, bytes(200_000)), "131072 negotiated"),
        (b"AMQP\0\1\0\0", "after a protocol header"),
    ],
)
def test_the_judge_refuses_what_no_broker_may_say(said: bytes, complaint: str) -> None:
    with pytest.raises(Illegal, match=re.escape(complaint)):
        Judge().hear(said)


def test_the_judge_sees_a_connection_that_ends_in_the_middle_of_a_frame() -> None:
    judge = Judge()
    judge.hear(OPEN[:-3])
    with pytest.raises(Illegal, match="half a frame"):
        judge.end()


# -- the speakers


def test_a_voice_speaks_of_everything_sooner_or_later() -> None:
    """Every method that clients may send comes, and every kind of mistake."""
    voice = Voice(Values(random.Random(1)), careful=True, wildness=0.6)
    voice.phase = 4
    seen, kinds = set(), set()
    for _ in range(6000):
        speech = voice.next()
        kinds.add(speech.kind)
        if speech.octets[:1] == b"\1":
            seen.add(speech.octets[7:11])
        if not voice.values.below(50):
            voice.hear(1 + voice.values.below(6), "tx.select-ok", {})
            voice.hear(1 + voice.values.below(6), "basic.deliver", {"delivery_tag": 1})
    wanted = {
        name
        for name in METHODS
        if not name.endswith("-ok") and name.partition(".")[0] not in ("connection", "basic")
    } - {"channel.close"}
    wanted |= {"basic.publish", "basic.consume", "basic.get", "basic.ack", "basic.nack", "basic.reject"}
    assert {name for name in wanted if U16(METHODS[name][0]) + U16(METHODS[name][1]) not in seen} == set()
    assert kinds >= {
        "methods", "arguments", "tables", "content headers", "bodies", "frames", "methods out of place",
        "unknown methods", "heartbeats", "floods", "raw octets", "garbled octets",
    }  # fmt: skip


def test_an_entry_is_one_that_the_broker_takes() -> None:
    house = House(1)
    house.world.settings.channel_max = 2047
    house.dial(Step("dial", 1))
    for said in ENTRY:
        house.say(Step("say", 1, said))
        house.settle(Step("settle"))
    names = [each.name for each in house.clients[1].judge.take()]
    assert names == ["connection.start", "connection.tune", "connection.open-ok"]
