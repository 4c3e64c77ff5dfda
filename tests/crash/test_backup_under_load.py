"""A backup of a broker that publishers, consumers and transactions keep busy, restored and held to the promises."""

from __future__ import annotations

import asyncio
import copy
import os
import random
import subprocess
import sys
from pathlib import Path
from typing import Final

import anyio
import pytest

from amqp_broker.store.backup import back_up
from tests.crash.ledger import Ledger, Transaction
from tests.crash.load import COPIES, QUEUES, SINGLE, TRANSACTED, WINDOW, Load, crash_seed
from tests.crash.taking import take_everything
from tests.server.broker_process import BrokerProcess

SEED: Final = crash_seed()
BACKUPS: Final = int(os.environ.get("AMQP_CRASH_ROUNDS", "2"))
CONFIRMED: Final = (SINGLE, WINDOW, *COPIES, *TRANSACTED)
FURTHER: Final = 50


def command(*arguments: str | Path) -> str:
    ran = subprocess.run(
        [sys.executable, "-m", "amqp_broker", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (ran.returncode, ran.stderr) == (0, ""), ran.stdout
    return ran.stdout


class Promises:
    """What a broker has promised up to now.

    Made at once, as in a pause of its clients LMDB would catch up with the log.
    """

    def __init__(self, ledger: Ledger) -> None:
        self.confirmed = {name: set(queue.confirmed) for name, queue in ledger.queues.items()}
        self.settled = {name: set(queue.settled) for name, queue in ledger.queues.items()}
        self.moved = set(ledger.moved)
        self.committed = [transaction.committed for transaction in ledger.transactions]

    def among(self, ledger: Ledger) -> Ledger:
        """What a copy is held to that was made between then and now.

        Only these promises count; what else was asked for until now may have been done, or not.
        """
        expected = copy.deepcopy(ledger)
        for name, queue in expected.queues.items():
            queue.confirmed = self.confirmed[name]
            queue.settled = self.settled[name]
        expected.moved = self.moved
        for at, transaction in enumerate(expected.transactions):
            transaction.committed = at < len(self.committed) and self.committed[at]
        return expected


async def until_more_is_promised(load: Load, ledger: Ledger) -> None:
    """Wait until the broker has confirmed FURTHER messages more in each queue that is confirmed for."""
    queues = [ledger.queues[name] for name in CONFIRMED]
    wanted = [len(queue.confirmed) + FURTHER for queue in queues]
    with anyio.fail_after(40):
        while any(len(queue.confirmed) < count for queue, count in zip(queues, wanted, strict=True)):
            assert load.failures() == [], f"seed {SEED}"
            await asyncio.sleep(0.01)


def test_promises_made_during_a_backup_need_not_be_kept_by_it() -> None:
    ledger = Ledger(["q"])
    queue = ledger.queues["q"]
    first, second = queue.send("p"), queue.send("p")
    queue.confirmed.add(first)
    ledger.transactions = [Transaction([("q", first)])]
    before = Promises(ledger)
    queue.confirmed.add(second)
    ledger.transactions[0].committed = True
    assert before.among(ledger).problems({"q": [first]}) == []
    assert before.among(ledger).problems({"q": [second]}) != []
    assert Promises(ledger).among(ledger).problems({"q": [first]}) != []


@pytest.mark.anyio
@pytest.mark.timeout(120)
async def test_all_that_was_promised_before_a_backup_is_in_it(
    own_broker: BrokerProcess, tmp_path: Path
) -> None:
    print(f"AMQP_CRASH_SEED={SEED}")
    own_broker.start()
    ledger = Ledger(QUEUES)
    load = Load(own_broker.port, ledger, random.Random(SEED))
    await load.declare()
    await load.start()
    moments = []
    for number in range(BACKUPS):
        await until_more_is_promised(load, ledger)
        destination = tmp_path / f"backup-{number}"
        before = Promises(ledger)
        # Not as a command, whose start would leave LMDB the time to catch up with the log.
        await asyncio.to_thread(back_up, str(own_broker.data), str(destination))
        moments.append((destination, before.among(ledger)))
        print(await asyncio.to_thread(command, "verify", own_broker.data), end="")
        assert load.failures() == [], f"seed {SEED}"
    own_broker.kill()
    await load.finish()
    assert "Traceback" not in own_broker.stderr()
    for destination, expected in moments:
        data = tmp_path / f"{destination.name}-restored"
        print(await asyncio.to_thread(command, "restore", destination, "--data-dir", data), end="")
        restored = BrokerProcess(data)
        try:
            await asyncio.to_thread(restored.start)
            left = (await asyncio.to_thread(take_everything, restored.port, QUEUES)).messages
            assert expected.problems(left) == [], f"seed {SEED}"
            assert await asyncio.to_thread(restored.stop) == 0
        finally:
            restored.kill()
