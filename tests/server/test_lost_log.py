"""A log that is gone after a crash: nothing keeps the broker from starting with the rest, but it is not passed over."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from amqp_broker.server.verify import verify
from amqp_broker.store.backup import back_up
from amqp_broker.store.errors import StoreError
from amqp_broker.store.log_copy import LOG_SIZE
from tests.server.broker_process import BrokerProcess
from tests.server.surgery import publish_everywhere

DAMAGE = ["batches.log: is gone, or a part of it, and with it the last batches"]
WARNING = "the log is gone, or a part of it, after an end out of order"


def emptied(log: Path) -> None:
    os.truncate(log, 0)


def halved(log: Path) -> None:
    os.truncate(log, LOG_SIZE // 2)


WAYS = [pytest.param(Path.unlink, id="removed"), emptied, halved]


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[BrokerProcess]:
    broker = BrokerProcess(tmp_path / "data").start()
    publish_everywhere(broker.port)
    yield broker
    broker.kill()


@pytest.mark.parametrize("lose", WAYS)
def test_it_is_told_by_verify_a_backup_and_the_next_start(
    broker: BrokerProcess, tmp_path: Path, lose: Callable[[Path], None]
) -> None:
    broker.kill()
    lose(broker.data / "batches.log")
    assert verify(str(broker.data)).damage == DAMAGE
    with pytest.raises(StoreError, match=r"batches\.log: the log is gone, or a part of it"):
        back_up(str(broker.data), str(tmp_path / "backup"))
    broker.start()
    assert WARNING in broker.stderr()
    assert verify(str(broker.data)).damage == []
    assert broker.stop() == 0


@pytest.mark.parametrize("lose", WAYS)
def test_one_that_is_gone_after_an_end_in_order_is_not_missed(
    broker: BrokerProcess, lose: Callable[[Path], None]
) -> None:
    assert broker.stop() == 0
    lose(broker.data / "batches.log")
    assert verify(str(broker.data)).damage == []
    broker.start()
    assert WARNING not in broker.stderr()


def test_one_that_was_not_used_is_not_missed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AMQP_BROKER_DATA_DURABILITY", "process")
    broker = BrokerProcess(tmp_path / "data").start()
    try:
        publish_everywhere(broker.port)
        broker.kill()
        assert not (broker.data / "batches.log").exists()
        assert verify(str(broker.data)).damage == []
    finally:
        broker.kill()
