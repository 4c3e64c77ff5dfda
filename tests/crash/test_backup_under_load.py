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

import pytest

from tests.crash.ledger import Ledger, Transaction
from tests.crash.load import COPIES, QUEUES, SINGLE, TRANSACTED, WINDOW, Load
from tests.crash.test_kill_under_load import take_everything
from tests.server.broker_process import BrokerProcess

SEED: Final = int(os.environ.get("AMQP_CRASH_SEED", random.randrange(1 << 32)))
BACKUPS: Final = 3


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


def promised(before: Ledger, after: Ledger) -> Ledger:
    """What a copy must hold that was made between two moments.

    Promises count that were made before the first; what was asked for until the second may have been done, or not.
    """
    ledger = copy.deepcopy(after)
    for name, queue in ledger.queues.items():
        queue.confirmed = before.queues[name].confirmed
        queue.settled = before.queues[name].settled
    ledger.moved = before.moved
    committed = [transaction.committed for transaction in before.transactions]
    for at, transaction in enumerate(ledger.transactions):
        transaction.committed = at < len(committed) and committed[at]
    return ledger


def test_promises_made_during_a_backup_need_not_be_kept_by_it() -> None:
    before = Ledger(["q"])
    queue = before.queues["q"]
    first, second = queue.send("p"), queue.send("p")
    queue.confirmed.add(first)
    before.transactions = [Transaction([("q", first)])]
    after = copy.deepcopy(before)
    after.queues["q"].confirmed.add(second)
    after.transactions[0].committed = True
    assert promised(before, after).problems({"q": [first]}) == []
    assert promised(before, after).problems({"q": [second]}) != []
    assert promised(after, after).problems({"q": [first]}) != []


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
        await asyncio.sleep(0.5)
        before = copy.deepcopy(ledger)
        destination = tmp_path / f"backup-{number}"
        await asyncio.to_thread(command, "backup", destination, "--data-dir", own_broker.data)
        moments.append((destination, promised(before, ledger)))
        print(await asyncio.to_thread(command, "verify", own_broker.data), end="")
        assert load.failures() == [], f"seed {SEED}"
    own_broker.kill()
    await load.finish()
    assert "Traceback" not in own_broker.stderr()
    for destination, expected in moments:
        assert all(expected.queues[name].confirmed for name in (SINGLE, WINDOW, *COPIES, *TRANSACTED))
        data = tmp_path / f"{destination.name}-restored"
        print(await asyncio.to_thread(command, "restore", destination, "--data-dir", data), end="")
        restored = BrokerProcess(data)
        try:
            await asyncio.to_thread(restored.start)
            left = await asyncio.to_thread(take_everything, restored.port)
            assert expected.problems(left) == [], f"seed {SEED}"
            assert await asyncio.to_thread(restored.stop) == 0
        finally:
            restored.kill()
