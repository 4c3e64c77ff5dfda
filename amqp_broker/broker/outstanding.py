"""Messages of deliveries that are not settled: they leave memory, too, where the store has them.

Most deliveries are acknowledged and their messages never asked for again, so only the entries stay: each names its
queue's `absent` message instead of its own. What is rejected or comes back has its message read from the store first.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from amqp_broker.broker.message import RECOVERED, Message, QueueEntry
from amqp_broker.broker.runs import HEADERS, RUN_LENGTH
from amqp_broker.content.header import build_header

if TYPE_CHECKING:
    from amqp_broker.broker.queue import Queue


# How many that come back have their messages in memory at once.
PORTION: Final = 4 * RUN_LENGTH


def take_message_away(entry: QueueEntry, readable: int) -> bool:
    """Have a delivered entry give up its message; whether it did. readable: what the store says of it.

    One that the store does not have for this queue alone keeps it, and so does one of a queue that knows its messages
    by their headers.
    """
    queue = entry.queue
    if not RECOVERED <= entry.batch <= readable or entry.message.store_id or queue.seen is not None:
        return False
    if queue.absent is None:
        queue.absent = Message(b"\0\0", build_header(0, {}), b"")
    entry.message = queue.absent
    return True


def bring_back_messages(queue: Queue, entries: list[QueueEntry]) -> None:
    """Have entries, in any order, have their messages again. Raises LookupError if the store has lost one."""
    absent = queue.absent
    missing = [entry for entry in entries if entry.message is absent]
    missing.sort(key=_seq)
    at = 0
    while at < len(missing):
        rows = queue.store.read(queue.store_id, missing[at].seq, len(missing) - at)
        found = at
        for row in rows:
            if found < len(missing) and missing[found].seq == row.seq:
                missing[found].message = Message(row.address, HEADERS.parsed(row.header), row.body)
                found += 1
        if found == at:
            raise LookupError(f"entry {missing[at].seq} of queue '{queue.name}' is not in the store any more")
        at = found


def put_back_absent(queue: Queue, entries: list[QueueEntry], failed: bool) -> None:
    """`Queue.put_back` for entries of which some lack their messages: the last first, and what gathers leaves again.

    entries: emptied, see `Queue.requeue`.
    """
    if queue.is_quorum:
        # What comes back there has an order of its own.
        bring_back_messages(queue, entries)
        queue.put_back(entries, failed)
        return
    while entries:
        portion = entries[-PORTION:]
        del entries[-PORTION:]
        bring_back_messages(queue, portion)
        queue.put_back(portion, failed)
        if entries:
            queue.page_out(RUN_LENGTH, whole_runs=True)


def _seq(entry: QueueEntry) -> int:
    return entry.seq
