"""A short soak; and that one finds what is broken, plans alike from a seed, and does what its documentation says."""

from __future__ import annotations

import asyncio
import random
import re
from pathlib import Path

import pytest

from tests.crash.features import UNIQUE_QUEUES, FeatureLoad, death_problems
from tests.crash.ledger import Ledger
from tests.crash.load import CONFIRM, promise_of
from tests.crash.taking import Death, Taken
from tests.docs.pages import ROOT
from tests.server.broker_process import BrokerProcess
from tests.soak import __main__ as command
from tests.soak import rounds
from tests.soak.rounds import KILLS, Broken, Plan, Soak

SEED = 20
# Nobody consumes from this queue.
KEPT = UNIQUE_QUEUES[1]


class LoadUnderWay(FeatureLoad):
    """Has started when there is something of all that a round counts, however slow the machine is."""

    async def start(self) -> None:
        counts = asyncio.Event()

        def on_promise(_promise: str) -> None:
            if self._counts():
                counts.set()

        self.on_promise = on_promise
        await super().start()
        await counts.wait()

    def _counts(self) -> bool:
        queues = self._ledger.queues
        return (
            self.duplicates > 0
            and bool(queues[KEPT].confirmed)
            and any(queue.settled for queue in queues.values())
            and all(queues[source].confirmed for source, _ in self._ledger.deaths)
        )


@pytest.fixture
def anyio_backend() -> str:
    """aio-pika is an asyncio library."""
    return "asyncio"


def test_a_short_soak_finds_nothing_broken(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One round with memory to spare and one without, whatever is killed in them."""
    monkeypatch.setattr(rounds, "FeatureLoad", LoadUnderWay)
    status = command.main(["--rounds", "2", "--data-dir", str(tmp_path)])
    printed = capsys.readouterr()
    assert (status, printed.err) == (0, ""), printed.err
    found = dict(re.findall(r"^\| ([a-z ]+) \| ([\d,]+) \|$", printed.out, re.MULTILINE))
    assert (found["rounds"], found["rounds with paging"]) == ("2", "1")
    for what in (
        "confirmed",
        "acknowledgements settled",
        "dead letters",
        "duplicates published",
        "left in queues",
    ):
        assert found[what] != "0", printed.out
    assert list(tmp_path.iterdir()) == []


@pytest.mark.anyio
async def test_what_was_confirmed_and_is_gone_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def careless(*_arguments: object) -> Taken:
        return taken

    taken = Taken()
    taken.messages = {name: [] for name in FeatureLoad.queues}
    monkeypatch.setattr(rounds, "take_everything", careless)
    monkeypatch.setattr(rounds, "FeatureLoad", LoadUnderWay)
    soak = Soak(tmp_path, SEED, "none")
    try:
        with pytest.raises(
            Broken, match=rf"seed {SEED}, round 0: kill none(.|\n)*{KEPT}: confirmed, but lost"
        ):
            await soak.play(0)
    finally:
        soak.close()


@pytest.mark.anyio
@pytest.mark.parametrize("kill", ["store", "none"])
async def test_a_round_ends_as_it_was_planned(tmp_path: Path, kill: str) -> None:
    soak = Soak(tmp_path, SEED, kill)
    try:
        plan = await soak.play(0)
    finally:
        soak.close()
    assert plan.kill == kill
    assert soak.totals[f"kill {kill}"] == soak.totals["rounds"] == 1


@pytest.mark.anyio
async def test_clients_let_go_of_a_broker_that_lives(tmp_path: Path) -> None:
    broker = BrokerProcess(tmp_path / "data").start()
    try:
        load = FeatureLoad(broker.port, Ledger(FeatureLoad.queues), random.Random(SEED), "one")
        await load.declare()
        await load.start()
        await promise_of(load, CONFIRM, lambda: None)
        await load.finish()
        assert broker.stop() == 0
    finally:
        broker.kill()


def test_a_seed_says_what_every_round_does() -> None:
    plans = [str(Plan(SEED, number, None)) for number in range(50)]
    assert plans == [str(Plan(SEED, number, None)) for number in range(50)]
    assert len(set(plans)) == len(plans)
    assert {plan.kill for plan in (Plan(SEED, number, None) for number in range(50))} == set(KILLS)
    for plan in (Plan(SEED, number, None) for number in range(10)):
        asked = command.parser().parse_args(plan.arguments().split())
        assert (asked.rounds, str(Plan(asked.seed, asked.first, asked.kill))) == (1, str(plan))
    assert [Plan(SEED, number, "both").kill for number in range(5)] == ["both"] * 5


def test_dead_letters_that_say_something_else_are_found() -> None:
    rejected, expired = Death("rejected", "rejected", 1, 1), Death("expiring", "expired", 1, 1)
    assert death_problems({"rejected.dead": {rejected}, "expiring.dead": {expired}, "single": set()}) == []
    for wrong in (expired, rejected._replace(times=2), rejected._replace(entries=2)):
        assert death_problems({"rejected.dead": {rejected, wrong}}) != []
    assert death_problems({"single": {rejected}}) != []


def test_the_documentation_names_the_command() -> None:
    assert "python -m tests.soak --seed" in (ROOT / "docs" / "durability.md").read_text()
