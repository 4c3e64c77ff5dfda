"""Coverage decides what is tried next: `python -m tests.fuzz.guided --duration SECONDS [--target NAME]`.

atheris (the extra `fuzz`; Linux) instruments the broker as it is imported and keeps what reached something new. Its
targets are the decoders of `tests.fuzz.decoders` and, as "sessions", a broker in this process that one client says
octets to after its handshake. Half of what it tries is made by the generators of this package, the rest is libFuzzer's.
The compiled modules have nothing to instrument: run it where the broker is pure Python.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import atheris

SESSIONS = "sessions"
LONGEST = 4096
SEEDS = 60

with atheris.instrument_imports(include=["amqp_broker"]):
    from amqp_broker.session.connection import Connection
    from tests.fuzz import ledger
    from tests.fuzz.decoders import DECODERS, some_stream
    from tests.fuzz.house import no_chance
    from tests.fuzz.judge import Judge
    from tests.fuzz.phrases import LOGINS, PROTOCOL_HEADER, method
    from tests.fuzz.values import U16, U32, Values, long, short
    from tests.session.world import World

MECHANISM, RESPONSE = LOGINS[0]
ENTRY = (
    PROTOCOL_HEADER
    + method(0, "connection.start-ok", b"\0\0\0\0" + short(MECHANISM) + long(RESPONSE) + short(b"en_US"))
    + method(0, "connection.tune-ok", U16(2047) + U32(4096) + b"\0\0")
    + method(0, "connection.open", b"\1/\0\0")
    + b"".join(method(number, "channel.open", b"\0") for number in (1, 2, 3))
)


def try_session(octets: bytes) -> None:
    """One client says this and goes; what comes back has to be AMQP, and the books have to balance."""
    with no_chance(0):
        world = World()
        connection = Connection(world.broker, world.settings, world.turn, "a", True, world.now)
        judge = Judge(4096)
        for said in (ENTRY, octets):
            connection.receive(said, world.now)
            world.turn.settle()
            world.store.commit()
            world.turn.settle()
            judge.hear(b"".join(connection.output))
            connection.sent(sum(map(len, connection.output)), world.now)
            connection.output.clear()
        ledger.check(world.broker, [connection])
        connection.lost()
        world.store.commit()
        ledger.check_deserted(world.broker)
        ledger.check_restart(world.broker, world.store)


TARGETS: dict[str, tuple[Callable[[Values], bytes], Callable[[bytes], None]]] = {
    **{decoder.kind.replace(" ", "-"): (decoder.some, decoder.attempt) for decoder in DECODERS},
    SESSIONS: (some_stream, try_session),
}


def parser() -> argparse.ArgumentParser:
    made = argparse.ArgumentParser(prog="python -m tests.fuzz.guided", description=__doc__.partition("\n")[0])
    made.add_argument("--target", choices=TARGETS, default=SESSIONS)
    made.add_argument("--duration", type=int, default=60, help="seconds")
    made.add_argument("--seed", type=int, default=1)
    made.add_argument("--corpus", type=Path, help="a directory that keeps what reached something new")
    made.add_argument("--replay", type=Path, help="try what is in this file, and nothing else")
    return made


def main(arguments: Sequence[str] | None = None) -> None:
    """libFuzzer ends the process: with status 0 after its time, with another one after the first failure."""
    asked = parser().parse_args(arguments)
    some, attempt = TARGETS[asked.target]
    if asked.replay is not None:
        attempt(asked.replay.read_bytes())
        print("no failure")
        return
    corpus = asked.corpus or Path(tempfile.mkdtemp(prefix="fuzz-corpus-"))
    corpus.mkdir(exist_ok=True)
    values = Values(random.Random(asked.seed))
    for number in range(SEEDS):
        (corpus / f"seed-{number}").write_bytes(some(values)[:LONGEST])

    def mutated(octets: bytes, longest: int, seed: int) -> bytes:
        if seed % 2:
            draw = Values(random.Random(seed))
            other = some(draw)
            return (octets + other if seed % 8 == 1 else other)[:longest]
        return bytes(atheris.Mutate(octets, longest))

    options = [
        f"-max_total_time={asked.duration}",
        f"-seed={asked.seed}",
        f"-max_len={LONGEST}",
        "-print_final_stats=1",
    ]
    atheris.Setup([sys.argv[0], *options, str(corpus)], attempt, custom_mutator=mutated)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
