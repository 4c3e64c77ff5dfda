"""Each kind of damage is found, said in one line with its place, and nothing else is taken for damage."""

from __future__ import annotations

import marshal
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import lmdb
import lmdb.verify as lmdb_verify
import pytest

from amqp_broker.broker.broker import KINDS
from amqp_broker.broker.ports import Definition
from amqp_broker.server.verify import _FIELDS, verify
from amqp_broker.store import records
from amqp_broker.store import verify as store_verify
from amqp_broker.store.definitions import encode_definition
from amqp_broker.store.environment import PROCESS, log_path, open_environment
from amqp_broker.store.errors import StoreError
from amqp_broker.store.log import Log
from amqp_broker.store.log_copy import LOG_SIZE, RECORD
from amqp_broker.store.verify import Report
from amqp_broker.store.writer import Writer
from tests.server.broker_process import BrokerProcess
from tests.server.surgery import MAP_SIZE, Surgery, publish_everywhere, surgery

PAGE = 4096

# Another process, as an environment must not be opened twice in one.
COMMITTING = """
import sys
from amqp_broker.store import records
from amqp_broker.store.environment import open_environment
from amqp_broker.store.writer import Writer
Writer(open_environment(sys.argv[1], 1 << 30), sys.argv[1]).apply([[records.COUNTER, [5000]]])
"""


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a broker left that ended in good order."""
    broker = BrokerProcess(tmp_path_factory.mktemp("verify") / "data").start()
    try:
        publish_everywhere(broker.port)
        assert broker.stop() == 0
    finally:
        broker.kill()
    return broker.data


@pytest.fixture
def data(original: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(original, tmp_path / "data"))


def found(report: Report) -> dict[str, list[str]]:
    return {"damage": report.damage, "warnings": report.warnings}


def test_what_a_broker_leaves_is_sound(data: Path) -> None:
    report = verify(str(data))
    assert found(report) == {"damage": [], "warnings": []}
    assert report.pages
    assert (report.queues, report.messages, report.shared, report.pending) == (4, 24, 4, 0)
    assert report.octets == 8 * 6 + 4 * 6 + 8 * 10
    # 4 queues, 3 exchanges, 4 bindings.
    assert report.definitions == 11


def test_what_runs_is_sound_too(original: Path, tmp_path: Path) -> None:
    broker = BrokerProcess(Path(shutil.copytree(original, tmp_path / "data"))).start()
    try:
        assert found(verify(str(broker.data))) == {"damage": [], "warnings": []}
        broker.kill()
        assert found(verify(str(broker.data))) == {"damage": [], "warnings": []}
    finally:
        broker.kill()


# ---- rows


def bad_flags(cut: Surgery) -> None:
    key, value = cut.entry("plain", reference=False)
    cut.put_entry(key, b"\x80" + value[1:])


def cut_entry(cut: Surgery) -> None:
    key, value = cut.entry("plain", reference=False)
    cut.put_entry(key, value[:4])


def cut_address(cut: Surgery) -> None:
    key, value = cut.entry("plain", reference=False)
    cut.put_entry(key, value[:5] + b"\xff" + value[6:])


def cut_body(cut: Surgery) -> None:
    key, value = cut.entry("plain", reference=False)
    cut.put_entry(key, value[:-1])


def bad_header(cut: Surgery) -> None:
    key, value = cut.entry("plain", reference=False)
    at = value.index(b"\x00\x3c\x00\x00") + 12
    cut.put_entry(key, value[:at] + b"\x80\x00" + value[at + 2 :])


def cut_message(cut: Surgery) -> None:
    key, _ = cut.first_message()
    cut.txn.put(key, b"", db=cut.databases.messages)


def cut_reference(cut: Surgery) -> None:
    key, value = cut.entry("plain", reference=True)
    cut.put_entry(key, value[:-3])


def longer_reference(cut: Surgery) -> None:
    key, value = cut.entry("plain", reference=True)
    cut.put_entry(key, value + b"\0")


def lost_message(cut: Surgery) -> None:
    cut.txn.delete(cut.first_message()[0], db=cut.databases.messages)


def other_size(cut: Surgery) -> None:
    key, value = cut.first_message()
    cut.txn.put(key, value + b"!", db=cut.databases.messages)


def flagged_message(cut: Surgery) -> None:
    key, value = cut.first_message()
    cut.txn.put(key, b"\2" + value[1:], db=cut.databases.messages)


def odd_message(cut: Surgery) -> None:
    cut.txn.put(b"odd", cut.first_message()[1], db=cut.databases.messages)


def odd_entry(cut: Surgery) -> None:
    cut.put_entry(b"\0\0\0\1odd", b"")


def short_lane(cut: Surgery) -> None:
    cut.put_lane(records.LANE_KEY.pack(cut.queue_id("ranked"), 2), b"\1")


def watermark_elsewhere(cut: Surgery) -> None:
    cut.put_lane(records.LANE_KEY.pack(cut.queue_id("ranked"), 2), records.LANE.pack(3 << 56, 1, 0, 0))


def lane_miscounted(cut: Surgery) -> None:
    cut.put_lane(records.LANE_KEY.pack(cut.queue_id("ranked"), 2), records.LANE.pack(0, 7, 5, 0))


def lane_forgotten(cut: Surgery) -> None:
    cut.txn.delete(records.LANE_KEY.pack(cut.queue_id("ranked"), 1), db=cut.databases.lanes)


def entry_of_the_future(cut: Surgery) -> None:
    cut.put_entry(records.ENTRY_KEY.pack(100_000, 1), cut.entry("plain", reference=False)[1])


def no_schema(cut: Surgery) -> None:
    cut.txn.delete(records.SCHEMA_KEY, db=cut.databases.meta)


def bad_number(cut: Surgery) -> None:
    cut.put_meta(records.LOG_KEY, b"7")


def odd_range(cut: Surgery) -> None:
    cut.put_meta(records.RANGE_PREFIX + b"?", b"")


def empty_range(cut: Surgery) -> None:
    cut.put_meta(records.RANGE_KEY.pack(records.RANGE_PREFIX, 1, 7), records.U64.pack(5))


@pytest.mark.parametrize(
    ("harm", "expected"),
    [
        (bad_flags, [r"queue 'plain' in vhost '/', entry \d+: unknown entry flags 0x80"]),
        (cut_entry, [r"queue 'plain' in vhost '/', entry \d+: entry cut short"]),
        (cut_address, [r"queue 'plain' in vhost '/', entry \d+: entry cut short"]),
        (cut_body, [r"queue 'plain' in vhost '/', entry \d+: its body has 5 octets, its header says 6"]),
        (bad_header, [r"queue 'plain' in vhost '/', entry \d+: propert.*"]),
        (cut_reference, [r"queue 'plain' in vhost '/', entry \d+: entry cut short"]),
        (longer_reference, [r"queue 'plain' in vhost '/', entry \d+: entry cut short"]),
        (lost_message, [rf"queue '{name}' in vhost '/', entry \d+: its message 1 is missing"
                        for name in ("plain", "other")]),
        (other_size, [*(rf"queue '{name}' in vhost '/', entry \d+: its message 1 has a body of 7 octets instead of 6"
                        for name in ("plain", "other")),
                      "shared message 1: its body has 7 octets, its header says 6"]),
        (cut_message, [*(rf"queue '{name}' in vhost '/', entry \d+: entry cut short" for name in ("plain", "other")),
                       "shared message 1: cut short"]),
        (flagged_message, ["shared message 1: unexpected flags 0x2"]),
        (odd_message, ["msg: a row with the key 6f6464 is no message"]),
        (odd_entry, ["q: a row with the key 000000016f6464 is no entry"]),
        (
            short_lane,
            [
                r"lanes: the row with the key \w+ makes no sense",
                "queue 'ranked' in vhost '/', lane 2: its entries were not counted",
            ],
        ),
        (watermark_elsewhere, [r"queue 'ranked' in vhost '/', lane 2: its watermark \d+ belongs to another lane"]),
        (
            lane_miscounted,
            [
                r"queue 'ranked' in vhost '/', lane 2: entries, octets and references are \[1, 0, 0\], "
                r"not \[7, 5, 0\] as was counted"
            ],
        ),
        (lane_forgotten, ["queue 'ranked' in vhost '/', lane 1: its entries were not counted"]),
        (entry_of_the_future,
         [r"queue id 100000: its queue id 100000 is none of those given out, 1 to \d+"]),
        (no_schema, ["meta: the schema version is missing"]),
        (bad_number, ["meta: 'log' is no number"]),
        (odd_range, [r"meta: the range b'range\?' makes no sense"]),
        (empty_range, ["meta: the range 7 to 5 of queue id 1 has nothing in it"]),
    ],
)  # fmt: skip
def test_a_damaged_row_is_found(data: Path, harm: Callable[[Surgery], None], expected: list[str]) -> None:
    with surgery(data) as cut:
        harm(cut)
    damage = verify(str(data)).damage
    if not any(", lane " in pattern for pattern in expected):
        # An entry that was cut or added is not as its lane counts it, either.
        damage = [line for line in damage if ", lane " not in line]
    assert len(damage) == len(expected), damage
    for line, pattern in zip(damage, expected, strict=True):
        assert re.fullmatch(pattern, line), line


# ---- definitions


def garbled(cut: Surgery) -> None:
    cut.txn.put(b"kqueue\0?", b"\xff\xff", db=cut.databases.definitions)


def misplaced(cut: Surgery) -> None:
    value = encode_definition(cut.definition("queue", "plain"))
    cut.undefine("queue", "plain")
    cut.txn.put(b"kqueue\0elsewhere", value, db=cut.databases.definitions)


def of_no_kind(cut: Surgery) -> None:
    cut.define(Definition("stream", b"\1", {"name": "s", "vhost": "/"}))


def incomplete(cut: Surgery) -> None:
    cut.define(cut.definition("binding", "other"), routing_key=None)


def unreadable_table(cut: Surgery) -> None:
    cut.define(cut.definition("queue", "plain"), arguments=b"\0\0\0\5\1aX")


def of_no_type(cut: Surgery) -> None:
    cut.define(cut.definition("exchange", "also"), type="x-rare")


def twice(cut: Surgery) -> None:
    cut.define_another("queue", "plain", store_id=77)


def same_id(cut: Surgery) -> None:
    cut.define_another("queue", "plain", name="again")


def unreserved_id(cut: Surgery) -> None:
    cut.define_another("queue", "plain", name="again", store_id=90_000)


def unreserved_values(cut: Surgery) -> None:
    cut.put_meta(records.QUEUE_ID_KEY, records.U64.pack(cut.queue_id("once", field="seen_id") - 1))


def lost_queue(cut: Surgery) -> None:
    cut.undefine("queue", "other")


def lost_exchange(cut: Surgery) -> None:
    cut.undefine("exchange", "fan")


@pytest.mark.parametrize(
    ("harm", "expected"),
    [
        (garbled, [r"definition b'kqueue.*': makes no sense: .*"]),
        (misplaced, [r"definition b'kqueue.*elsewhere': is that of another queue"]),
        (of_no_kind, ["stream 's' in vhost '/': definitions of this kind are not known"]),
        (incomplete, ["binding of 'other' to 'fan' in vhost '/': 'routing_key' is missing or of the wrong type"]),
        (unreadable_table, ["queue 'plain' in vhost '/': 'arguments' cannot be read: .*"]),
        (of_no_type, ["exchange 'also' in vhost '/': there is no exchange type 'x-rare'"]),
        (twice, ["queue 'plain' in vhost '/': is defined twice"]),
        (same_id, [r"queue 'again' in vhost '/': has queue id \d+, as has queue 'plain' in vhost '/'"]),
        (unreserved_id, [r"queue 'again' in vhost '/': its queue id 90000 is none of those given out, 1 to \d+"]),
        (unreserved_values, [rf"{what}queue 'once' in vhost '/': its queue id \d+ is none of those given out, .*"
                             for what in ("", "values seen by ")]),
        (lost_queue, ["binding of 'other' to 'fan' in vhost '/': there is no queue 'other'"]),
        (lost_exchange, ["binding of 'fan' to 'also' in vhost '/': there is no exchange 'fan'",
                         "binding of 'plain' to 'fan' in vhost '/': there is no exchange 'fan'",
                         "binding of 'other' to 'fan' in vhost '/': there is no exchange 'fan'"]),
    ],
)  # fmt: skip
def test_a_damaged_definition_is_found(
    data: Path, harm: Callable[[Surgery], None], expected: list[str]
) -> None:
    with surgery(data) as cut:
        harm(cut)
    damage = verify(str(data)).damage
    assert len(damage) == len(expected), damage
    for line, pattern in zip(sorted(damage), sorted(expected), strict=True):
        assert re.fullmatch(pattern, line), line


# ---- what looks like damage, and is none


def test_entries_that_belong_to_nothing_are_worth_a_warning(data: Path) -> None:
    with surgery(data) as cut:
        queue_id = cut.queue_id("ranked")
        cut.undefine("queue", "ranked")
    report = verify(str(data))
    warning = f"queue id {queue_id}: 4 entries belong to nothing; a start removes them"
    assert found(report) == {"damage": [], "warnings": [warning]}
    assert report.messages == 20


def test_several_virtual_hosts_without_definitions_are_worth_a_warning(data: Path) -> None:
    with surgery(data) as cut:
        cut.define_another("exchange", "fan", vhost="elsewhere")
    (warning,) = verify(str(data)).warnings
    assert "'/', 'elsewhere' at most one can be the configuration's" in warning


def test_a_row_of_meta_that_is_not_known_is_worth_a_warning(data: Path) -> None:
    with surgery(data) as cut:
        cut.put_meta(b"colour", b"red")
    assert found(verify(str(data))) == {"damage": [], "warnings": ["meta: unknown row b'colour'"]}


def test_what_is_still_to_be_removed_no_longer_counts(data: Path) -> None:
    """Not even if what it refers to has gone before it."""
    with surgery(data) as cut:
        queue_ids = [cut.queue_id(name) for name in ("plain", "other")]
        for name in ("plain", "other"):
            cut.undefine("queue", name)
        cut.undefine("binding", "plain")
        cut.undefine("binding", "plain")
        cut.undefine("binding", "other")
        cut.txn.drop(cut.databases.messages, delete=False)
        for queue_id in queue_ids:
            key = records.RANGE_KEY.pack(records.RANGE_PREFIX, queue_id, 0)
            cut.put_meta(key, records.U64.pack(records.MAX_SEQ))
            cut.txn.delete(records.LANE_KEY.pack(queue_id, 0), db=cut.databases.lanes)
    report = verify(str(data))
    assert found(report) == {"damage": [], "warnings": []}
    assert report.messages == 24 - 12


def test_a_shared_message_that_nobody_refers_to_is_dropped_by_a_start_anyway(data: Path) -> None:
    with surgery(data) as cut:
        _, value = cut.first_message()
        cut.txn.put(records.U64.pack(1000), value, db=cut.databases.messages)
    report = verify(str(data))
    assert found(report) == {"damage": [], "warnings": []}
    assert report.shared == 4


# ---- the log


def appended(data: Path, *payloads: bytes, number: int = 0) -> Path:
    """Batches in the log that LMDB lacks."""
    environment = open_environment(str(data), MAP_SIZE, PROCESS)
    last = number or Writer(environment, str(data)).log_number()
    environment.close()
    log = Log(log_path(str(data)))
    log.prepare()
    log.append([(last + 1 + at, payload) for at, payload in enumerate(payloads)])
    log.close()
    return Path(log_path(str(data)))


SENSE = marshal.dumps([records.COUNTER, [2000]], 2)


def test_what_lmdb_lacks_is_counted(data: Path) -> None:
    appended(data, SENSE, SENSE)
    report = verify(str(data))
    assert found(report) == {"damage": [], "warnings": []}
    assert report.pending == 2


@pytest.mark.parametrize(
    ("payload", "complaint"),
    [
        (b"", r"batches\.log: batch \d+ makes no sense: .*"),
        (b"?", r"batches\.log: batch \d+ makes no sense: .*"),
        (marshal.dumps(7, 2), r"batches\.log: batch \d+ makes no sense: .*"),
        (marshal.dumps([1], 2), r"batches\.log: batch \d+ makes no sense: .*"),
        (marshal.dumps([99, []], 2), r"batches\.log: batch \d+ has sections of unknown kinds \[99\]"),
    ],
)
def test_a_batch_that_makes_no_sense_is_found(data: Path, payload: bytes, complaint: str) -> None:
    appended(data, SENSE, payload)
    (line,) = verify(str(data)).damage
    assert re.fullmatch(complaint, line)


def test_batches_that_are_missing_between_the_log_and_lmdb_are_found(data: Path) -> None:
    appended(data, SENSE, number=5000)
    (line,) = verify(str(data)).damage
    assert re.fullmatch(
        r"the log begins with batch 5001, but the store ends with batch \d+: .* is missing", line
    )


def test_a_damaged_record_in_the_middle_is_found(data: Path) -> None:
    path = appended(data, SENSE, SENSE, SENSE)
    with path.open("r+b") as file:
        file.seek(2 * (RECORD.size + len(SENSE)) - 1)
        file.write(b"?")
    (line,) = verify(str(data)).damage
    assert re.fullmatch(r"batches\.log: batch \d+ is damaged, and with it those that follow are lost", line)


def test_a_log_that_was_cut_short_is_found(data: Path) -> None:
    path = appended(data, SENSE, SENSE)
    os.truncate(path, RECORD.size + len(SENSE) + 3)
    assert verify(str(data)).damage == ["batches.log: was cut short: batches are missing"]
    assert path.stat().st_size < LOG_SIZE


# ---- the file


def test_a_damaged_page_is_found_and_no_row_read(data: Path) -> None:
    path = data / "store" / "data.mdb"
    with path.open("r+b") as file:
        for page in range(2, path.stat().st_size // PAGE):
            file.seek(page * PAGE)
            file.write(b"\xff" * 16)
    report = verify(str(data))
    assert report.damage
    assert all(line.startswith("store/data.mdb: ") for line in report.damage)
    assert report.messages == 0


def test_a_file_that_was_cut_off_is_found(data: Path) -> None:
    """Reading rows beyond its end would be the end of the process."""
    path = data / "store" / "data.mdb"
    os.truncate(path, path.stat().st_size // 2 // PAGE * PAGE)
    assert verify(str(data)).damage


def test_a_file_that_is_something_else_is_found(data: Path) -> None:
    (data / "store" / "data.mdb").write_bytes(b"not a store" * 4096)
    (line,) = verify(str(data)).damage
    assert line.startswith("store/data.mdb: ")
    assert "MDB_INVALID" in line


def test_a_database_that_is_missing_is_found(data: Path) -> None:
    with surgery(data) as cut:
        cut.txn.drop(cut.databases.messages)
    assert verify(str(data)).damage == ["store: the database 'msg' is missing"]


def test_pages_that_change_meanwhile_are_not_judged(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def walk(path: str) -> list[str]:
        subprocess.run([sys.executable, "-c", COMMITTING, str(data)], check=True, timeout=30)
        return ["a page that was used again in the middle of it"]

    monkeypatch.setattr(lmdb_verify, "verify", walk)
    report = verify(str(data))
    assert found(report) == {"damage": [], "warnings": []}
    assert not report.pages
    assert report.messages == 24


def test_a_binding_of_lmdb_that_cannot_check_pages_is_said_to_be_one(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(lmdb, "verify")
    monkeypatch.setitem(sys.modules, "lmdb.verify", None)
    report = verify(str(data))
    warning = "store/data.mdb: its pages are not checked: that takes lmdb 3 or newer"
    assert found(report) == {"damage": [], "warnings": [warning]}
    assert not report.pages


def test_more_is_said_to_be_there_than_anyone_would_read(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_verify, "MOST_TOLD", 3)
    with surgery(data) as cut:
        cut.txn.drop(cut.databases.messages, delete=False)
    report = verify(str(data))
    assert (len(report.damage), report.untold) == (3, 5)


# ---- what cannot be checked


def test_a_later_schema_is_not_judged(data: Path) -> None:
    with surgery(data) as cut:
        cut.put_meta(records.SCHEMA_KEY, records.U64.pack(records.SCHEMA_VERSION + 1))
    with pytest.raises(StoreError, match="its schema version is 3, this command knows versions up to 2"):
        verify(str(data))


def test_a_directory_without_a_store_is_not_judged(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="there is no store in it"):
        verify(str(tmp_path))
    (tmp_path / "store").mkdir()
    open_environment(str(tmp_path), MAP_SIZE).close()
    with pytest.raises(StoreError, match="there is no store in it, but the beginning of one"):
        verify(str(tmp_path))


def test_a_backup_is_left_without_a_trace(data: Path) -> None:
    for name in ("broker.lock", "store.lock", "store/lock.mdb"):
        (data / name).unlink()
    before = sorted(data.rglob("*"))
    assert not verify(str(data)).damaged
    assert sorted(data.rglob("*")) == before


def test_every_kind_of_definition_is_looked_into() -> None:
    assert _FIELDS.keys() == set(KINDS)
