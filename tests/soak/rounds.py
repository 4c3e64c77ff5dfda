"""Rounds of a soak: a broker under load is ended in one way or another, comes back, and is held to its promises.

A `Plan` says what a round does; it follows from the seed and the round's number alone. A `Soak` carries plans out, one
after the other on one data directory, and raises `Broken` with everything that is needed to try the round again.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import subprocess
import time
from collections import Counter
from pathlib import Path
from typing import Final

from tests.crash.features import DELAYED, EXPIRING, LATER, LATEST, FeatureLoad, death_problems
from tests.crash.ledger import Ledger
from tests.crash.load import PROMISES, Load, promise_of
from tests.crash.taking import Taken, take_everything
from tests.server.broker_process import BrokerProcess, installed_command

KILLS: Final = ("broker", "store", "both", "none")
AT_ONCE, STOPPED = "at once", "writer stopped"
# So little that nearly all that waits has to leave memory.
PAGING: Final = "[limits]\nmessages_in_memory = 65536\n"
STOPPED_SECONDS: Final = 0.05


class Broken(AssertionError):
    """A promise that was not kept."""


class Plan:
    """What a round does.

    kill: whom, one of KILLS; "none" asks the broker to end. how: at once, when something is promised, or a moment
    after the store process was stopped. moment: seconds of load before. paging: whether memory is small under the load
    and after it. again: after how many seconds of its start the broker is killed once more, if at all.
    """

    def __init__(self, seed: int, number: int, kill: str | None) -> None:
        source = random.Random(f"{seed} {number}")
        chosen = source.choice(KILLS)
        self.seed = seed
        self.number = number
        self.kill = kill or chosen
        how = source.choice((AT_ONCE, STOPPED, *PROMISES))
        self.how = AT_ONCE if self.kill == "none" else how
        self.moment = source.uniform(0.1, 2.0)
        # In turn, so that exactly half of the rounds have it; after the load it is by chance.
        self.paging = (number % 2 == 1, source.random() < 0.5)
        self.again = source.uniform(0.0, 0.5) if source.random() < 0.3 else None
        self.load = source.randrange(1 << 32)

    def arguments(self) -> str:
        """For this round alone; its kill is said, as it may not have been chosen."""
        return f"--seed {self.seed} --first {self.number} --rounds 1 --kill {self.kill}"

    def __str__(self) -> str:
        again = "" if self.again is None else f", again after {self.again:.2f} s"
        return (
            f"seed {self.seed}, round {self.number}: kill {self.kill}, {self.how} after {self.moment:.2f} s{again}, "
            f"paging {self.paging[0]} then {self.paging[1]}"
        )


class Soak:
    """`play` rounds; `totals` says what they came to. The broker's data are beside other files in `directory`."""

    def __init__(self, directory: Path, seed: int, kill: str | None = None) -> None:
        self.broker = BrokerProcess(directory / "data")
        self.totals: Counter[str] = Counter()
        self.slowest_start = 0.0
        self._seed = seed
        self._kill = kill
        self._settings = directory / "paging.toml"
        self._settings.write_text(PAGING)

    async def play(self, number: int) -> Plan:
        """One round. Raises Broken, or BrokerFailed if the broker does not start or end as it should."""
        plan = Plan(self._seed, number, self._kill)
        try:
            await self._play(plan)
        except AssertionError as error:
            again = f"python -m tests.soak {plan.arguments()}"
            said = self.broker.stderr()
            raise Broken(
                f"{plan}\n{error}\nto try it again: {again}\nwhat the broker said:\n{said}"
            ) from error
        return plan

    def close(self) -> None:
        self.broker.kill()

    async def _play(self, plan: Plan) -> None:
        await self._start(plan.paging[0])
        ledger = Ledger(FeatureLoad.queues)
        load = FeatureLoad(self.broker.port, ledger, random.Random(plan.load), f"round {plan.number}")
        try:
            await load.declare()
            await load.start()
            await asyncio.sleep(plan.moment)
            _refuse("clients failed before the kill", [str(error) for error in load.failures()])
            await self._end(plan, load)
        finally:
            await load.finish()
        await self._verify()
        if plan.again is not None:
            await self._interrupt_start(plan)
        await self._start(plan.paging[1])
        load.reconnect(self.broker.port)
        await load.repeat()
        await load.finish()
        taken = await asyncio.to_thread(
            take_everything, self.broker.port, load.queues, [EXPIRING], [(DELAYED, LATER, LATEST)]
        )
        _refuse("promises that were broken", ledger.problems(taken.messages) + death_problems(taken.deaths))
        await self._verify()
        self._count(plan, ledger, load, taken)
        _refuse("the broker did not end in good order", [] if await self._stop() == 0 else ["status"])

    async def _start(self, paging: bool) -> None:
        self.broker.arguments = ["--config", str(self._settings)] if paging else []
        began = time.monotonic()
        await asyncio.to_thread(self.broker.start)
        self.slowest_start = max(self.slowest_start, time.monotonic() - began)

    async def _stop(self) -> int:
        status = await asyncio.to_thread(self.broker.stop)
        self._look_for_tracebacks()
        return status

    def _look_for_tracebacks(self) -> None:
        _refuse("the broker failed", ["Traceback"] if "Traceback" in self.broker.stderr() else [])

    async def _end(self, plan: Plan, load: Load) -> None:
        if plan.kill == "none":
            _refuse("the broker did not end in good order", [] if await self._stop() == 0 else ["status"])
            return
        if plan.how == STOPPED:
            for writer in self.broker.writers():
                os.kill(writer, signal.SIGSTOP)
            await asyncio.sleep(STOPPED_SECONDS)
        elif plan.how != AT_ONCE:
            await promise_of(load, plan.how, lambda: self._kill_now(plan.kill))
        await asyncio.to_thread(self._see_it_end, plan)

    def _kill_now(self, whom: str) -> None:
        """Only the signal: this may be called in the midst of the load's own work."""
        if whom == "store":
            for writer in self.broker.writers():
                os.kill(writer, signal.SIGKILL)
        elif whom == "broker":
            os.kill(self.broker.pid, signal.SIGKILL)
        else:
            os.killpg(self.broker.pid, signal.SIGKILL)

    def _see_it_end(self, plan: Plan) -> None:
        if plan.kill == "store":
            if plan.how in (AT_ONCE, STOPPED):
                self._kill_now(plan.kill)
            status = self.broker.wait_ended()
            _refuse("a broker without its store process", [] if status == 1 else [f"ended with {status}"])
            self._look_for_tracebacks()
            return
        # A store process that is stopped would keep the directory to itself for ever.
        self.broker.kill(whole_group=plan.kill == "both" or plan.how == STOPPED)

    async def _interrupt_start(self, plan: Plan) -> None:
        self.broker.launch()
        await asyncio.sleep(plan.again or 0.0)
        self.broker.kill(whole_group=plan.kill != "broker")
        self.totals["kills during a start"] += 1

    async def _verify(self) -> None:
        command = [*installed_command(), "verify", str(self.broker.data)]
        ran = await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, check=False)
        _refuse("the data directory is damaged", [ran.stdout + ran.stderr] if ran.returncode else [])

    def _count(self, plan: Plan, ledger: Ledger, load: FeatureLoad, taken: Taken) -> None:
        self.totals["rounds"] += 1
        self.totals[f"kill {plan.kill}"] += 1
        self.totals["rounds with paging"] += plan.paging[0]
        self.totals["transactions committed"] += sum(each.committed for each in ledger.transactions)
        self.totals["dead letters"] += sum(len(taken.messages[dead]) for _, dead in ledger.deaths)
        self.totals["duplicates published"] += load.duplicates
        self.totals["left in queues"] += sum(map(len, taken.messages.values()))
        for queue in ledger.queues.values():
            self.totals["published"] += sum(queue.sent.values())
            self.totals["confirmed"] += len(queue.confirmed)
            self.totals["acknowledged"] += len(queue.acknowledged)
            self.totals["acknowledgements settled"] += len(queue.settled)


def _refuse(what: str, problems: list[str]) -> None:
    if problems:
        raise Broken("\n  ".join([f"{what}:", *problems]))
