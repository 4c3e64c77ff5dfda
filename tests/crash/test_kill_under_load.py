"""kill -9 at random moments while clients publish, acknowledge and commit; nothing promised may be broken.

Three short rounds by default, which always choose alike. AMQP_CRASH_ROUNDS=20 runs twenty that chance chooses, and
AMQP_CRASH_SEED=N repeats the choices of a run (not its timing); the seed stands in every failure. All rounds share one
data directory.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import time
from typing import Final

import anyio
import pytest

from tests.crash.ledger import Ledger
from tests.crash.load import DEATHS, PROMISES, QUEUES, WINDOW_SIZE, Load, crash_seed, promise_of
from tests.crash.taking import take_everything
from tests.server.blocking import PERSISTENT, Inbox
from tests.server.broker_process import BrokerProcess
from tests.server.target import RunningBroker

ROUNDS: Final = int(os.environ.get("AMQP_CRASH_ROUNDS", "3"))
SEED: Final = crash_seed()


async def wait_until_under_way(load: Load, ledger: Ledger) -> None:
    """Return when there is something of all that is counted, however slow the machine is."""
    queues = ledger.queues
    with anyio.fail_after(30):
        while not (
            any(queue.settled for queue in queues.values())
            and all(len(queues[source].confirmed) > WINDOW_SIZE for source, _ in DEATHS)
        ):
            assert load.failures() == [], f"seed {SEED}: clients failed before the kill"
            await asyncio.sleep(0.005)


async def kill(broker: BrokerProcess, load: Load, source: random.Random) -> None:
    """Kill the broker, with or without its writer, in one of three ways.

    At once; the instant it makes a promise of a certain kind; or a while after its writer was stopped, when
    it can have made none that needs the disk, however many were asked of it.
    """
    whole_group, how = source.random() < 0.7, source.choice(["at once", "writer stopped", *PROMISES])
    if how == "writer stopped":
        for writer in broker.writers():
            os.kill(writer, signal.SIGSTOP)
        await asyncio.sleep(0.05)
    elif how != "at once":
        await promise_of(load, how, lambda: broker.kill(whole_group))
    broker.kill(whole_group=whole_group or how == "writer stopped")


@pytest.mark.anyio
@pytest.mark.timeout(60 + 20 * ROUNDS)
async def test_nothing_that_was_promised_is_broken_by_a_kill(own_broker: BrokerProcess) -> None:
    source = random.Random(SEED)
    print(f"AMQP_CRASH_SEED={SEED}")
    own_broker.start()
    totals = {"sent": 0, "confirmed": 0, "acknowledged": 0, "settled": 0, "left": 0, "died": 0}
    for number in range(ROUNDS):
        moment = source.uniform(0.1, 1.5)
        ledger = Ledger(QUEUES)
        load = Load(own_broker.port, ledger, source)
        await load.declare()
        await load.start()
        await asyncio.sleep(moment)
        if not number:
            await wait_until_under_way(load, ledger)
        assert load.failures() == [], f"round {number}, seed {SEED}: clients failed before the kill"
        await kill(own_broker, load, source)
        await load.finish()
        await asyncio.to_thread(own_broker.start)
        left = (await asyncio.to_thread(take_everything, own_broker.port, QUEUES)).messages
        assert ledger.problems(left) == [], f"round {number}, seed {SEED}"
        totals["left"] += sum(map(len, left.values()))
        totals["died"] += min(len(left[dead]) for _, dead in DEATHS)
        for queue in ledger.queues.values():
            totals["sent"] += sum(queue.sent.values())
            totals["confirmed"] += len(queue.confirmed)
            totals["acknowledged"] += len(queue.acknowledged)
            totals["settled"] += len(queue.settled)
    print(totals)
    assert min(totals.values()) > 0, f"the load did nothing worth a crash: {totals}"
    assert own_broker.stop() == 0
    assert "Traceback" not in own_broker.stderr()


def test_a_backlog_survives_kills_during_recovery(own_broker: BrokerProcess) -> None:
    source = random.Random(SEED)
    bodies = [b"backlog %d " % number + b"." * 200 for number in range(5000)]
    own_broker.start()
    connection = RunningBroker(own_broker.port).connect()
    channel = connection.channel()
    channel.queue_declare("backlog", durable=True)
    channel.tx_select()
    for body in bodies:
        channel._impl.basic_publish("", "backlog", body, PERSISTENT)
    channel.tx_commit()
    connection.close()
    own_broker.kill()
    for _ in range(6):
        own_broker.launch()
        deadline = time.monotonic() + source.uniform(0.0, 0.4)
        while time.monotonic() < deadline:
            time.sleep(0.005)
        own_broker.kill(whole_group=source.random() < 0.5)
    own_broker.start()
    with RunningBroker(own_broker.port).connect() as again:
        inbox = Inbox(again.channel(), "backlog", auto_ack=True)
        assert inbox.wait_for(len(bodies)) == bodies, f"seed {SEED}"
