"""Ready entries that are not in memory: runs of them, and how a run leaves and comes back.

A run either lies in the store, whose rows are read again, or was spilled: written to where nothing survives a restart,
with all that an entry knows. Rows are read where that saves writing a message twice: bodies that are large, or shared
by several queues. Small ones cost less to spill and to bring back in bulk than to find row by row.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Final, cast

from amqp_broker.broker.message import NOT_STORED, Message, QueueEntry
from amqp_broker.content.header import ContentHeader, KnownHeaders

if TYPE_CHECKING:
    from amqp_broker.broker.backlog import Backlog
    from amqp_broker.broker.ports import StoredEntry

RUN_LENGTH: Final = 256
RUN_OCTETS: Final = 256 << 10
# Bodies that are larger on average are not spilled if they can be read from the store.
LARGE: Final = 512
# Of all that is brought back: what was read last is often followed by what has the same headers.
HEADERS: Final = KnownHeaders()


class Run:
    """count entries with octets of bodies, seqs from first_seq to last_seq. ticket: of the spill, 0 for rows.

    stored: there are rows for its entries, or for some of them. dense: no other row of the queue lies between them.
    """

    __slots__ = ("count", "dense", "first_seq", "last_seq", "octets", "stored", "ticket")

    def __init__(self, first_seq: int, last_seq: int, count: int, octets: int) -> None:
        self.first_seq: int = first_seq
        self.last_seq: int = last_seq
        self.count: int = count
        self.octets: int = octets
        self.ticket: int = 0
        self.stored: bool = True
        self.dense: bool = True


def put_away(queue: Backlog, entries: list[QueueEntry], readable: int) -> Run | None:
    """Have entries, in seq order and all of them settled, leave memory; None if that cannot be done.

    readable: what the store says of it.
    """
    octets = 0
    in_rows = queue.store_id != 0
    shared = True
    stored = False
    in_order = True
    last_seq = 0
    for entry in entries:
        # What came back to a quorum queue may lie in any order.
        if entry.seq < last_seq:
            in_order = False
        last_seq = entry.seq
        message = entry.message
        octets += message.header.body_size
        if entry.batch == NOT_STORED:
            in_rows = False
        else:
            stored = True
            if entry.batch > readable or entry.deliveries or queue.handed_out(entry.seq):
                in_rows = False
        if not message.store_id:
            shared = False
    run = Run(entries[0].seq, entries[len(entries) - 1].seq, len(entries), octets)
    run.stored = stored
    # Rows are never of what was handed out, and nothing that was lies behind them; in others there may be gaps, in
    # which there is what somebody holds.
    run.dense = in_rows or (in_order and run.last_seq - run.first_seq + 1 == run.count)
    if not in_rows or (octets < LARGE * len(entries) and not shared):
        run.ticket = queue.store.spill(_packed(entries))
        if not run.ticket:
            return None
    return run


def bring_back(queue: Backlog, run: Run) -> list[QueueEntry]:
    """The next entries of a run, which is shorter by them then; none if it should have some that are not there."""
    if run.ticket:
        entries = _unpacked(queue, queue.store.unspill(run.ticket))
        queue.store.forget_spilled(run.ticket)
        run.ticket = 0
        run.count = run.octets = 0
        return entries
    entries = _from_rows(queue, read_rows(queue, run))
    if not entries:
        return entries
    run.first_seq = entries[len(entries) - 1].seq + 1
    run.count -= len(entries)
    for entry in entries:
        run.octets -= entry.message.header.body_size
    return entries


def forget(queue: Backlog, runs: Iterable[Run]) -> None:
    """The runs are not wanted any more; the store is not told of their rows."""
    for run in runs:
        if run.ticket:
            queue.store.forget_spilled(run.ticket)
            run.ticket = 0


def delete(queue: Backlog, runs: Iterable[Run]) -> None:
    """Their entries are gone, from the store as well. Runs that lie close together are one range there."""
    first_seq = last_seq = 0
    for run in runs:
        if not run.stored or not run.count:
            continue
        if not run.dense:
            for entry in _unpacked(queue, queue.store.unspill(run.ticket)):
                if entry.batch != NOT_STORED:
                    queue.store.delete(queue.store_id, entry)
            continue
        if run.first_seq != last_seq + 1:
            if last_seq:
                queue.store.delete_range(queue.store_id, first_seq, last_seq)
            first_seq = run.first_seq
        last_seq = run.last_seq
    if last_seq:
        queue.store.delete_range(queue.store_id, first_seq, last_seq)


def headers(queue: Backlog, run: Run) -> Iterator[ContentHeader]:
    """Of all its entries, which stay where they are."""
    if run.ticket:
        for entry in _unpacked(queue, queue.store.unspill(run.ticket)):
            yield entry.message.header
        return
    rest = Run(run.first_seq, run.last_seq, run.count, 0)
    while rest.count > 0:
        rows = read_rows(queue, rest)
        if not rows:
            return
        for row in rows:
            yield HEADERS.parsed(row.header)
        rest.first_seq = rows[len(rows) - 1].seq + 1
        rest.count -= len(rows)


def read_rows(queue: Backlog, run: Run) -> list[StoredEntry]:
    """The next rows of a run that lies in the store."""
    if run.count <= 0:
        return []
    rows = queue.store.read(queue.store_id, run.first_seq, min(RUN_LENGTH, run.count))
    while rows and rows[len(rows) - 1].seq > run.last_seq:
        rows.pop()
    return rows


def _from_rows(queue: Backlog, rows: list[StoredEntry]) -> list[QueueEntry]:
    entries: list[QueueEntry] = []
    header: ContentHeader | None = None
    payload = b""
    for row in rows:
        # Neighbours that are alike share theirs.
        if header is None or row.header is not payload:
            payload = row.header
            header = HEADERS.parsed(payload)
        entries.append(queue.entry_of(row, header))
    return entries


def _packed(entries: list[QueueEntry]) -> list[object]:
    """Columns: beginnings (how many entries share it, address, header), seqs, bodies, and the states in which an
    entry differs from one that is not stored, never expires and was not delivered (position, batch, expiry,
    deliveries, store_id).
    """
    beginnings: list[object] = []
    seqs: list[object] = []
    bodies: list[object] = []
    states: list[object] = []
    address = b""
    header: ContentHeader | None = None
    alike = 0
    for entry in entries:
        message = entry.message
        if message.header is not header or message.address != address:
            if header is not None:
                beginnings += (alike, address, header.payload)
            address = message.address
            header = message.header
            alike = 0
        alike += 1
        if entry.batch != NOT_STORED or entry.expiry or entry.deliveries:
            states += (len(seqs), entry.batch, entry.expiry, entry.deliveries, message.store_id)
        seqs.append(entry.seq)
        bodies.append(b"".join(message.chunks) if message.chunks else message.body)
    if header is not None:
        beginnings += (alike, address, header.payload)
    return [beginnings, seqs, bodies, states]


def _unpacked(queue: Backlog, columns: list[object]) -> list[QueueEntry]:
    beginnings = cast("list[object]", columns[0])
    seqs = cast("list[int]", columns[1])
    bodies = cast("list[bytes]", columns[2])
    states = cast("list[int]", columns[3])
    entries: list[QueueEntry] = []
    position = 0
    at = 0
    while at < len(beginnings):
        alike = cast(int, beginnings[at])
        address = cast(bytes, beginnings[at + 1])
        header = HEADERS.parsed(cast(bytes, beginnings[at + 2]))
        at += 3
        for _ in range(alike):
            entries.append(queue.entry(Message(address, header, bodies[position]), seqs[position]))
            position += 1
    at = 0
    while at < len(states):
        entry = entries[states[at]]
        entry.batch = states[at + 1]
        entry.expiry = states[at + 2]
        entry.deliveries = states[at + 3]
        entry.message.store_id = states[at + 4]
        at += 5
    return entries
