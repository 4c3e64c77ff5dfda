"""A producer and a consumer: what one channel publishes, and how one channel acknowledges.

They act when the connection or a timer wakes them, write whole bursts, and keep counts and moments for the
sampler. They never declare anything and never end a run.
"""

from __future__ import annotations

import asyncio
from typing import Final

from amqp_broker.perf.connection import Agent, Connection
from amqp_broker.perf.frames import AckBurst, ChannelInbox, ConfirmWindow, PublishBurst
from amqp_broker.perf.pacer import Pacer

BURST_BYTES: Final = 128 * 1024


class Producer(Agent):
    """Publishes until its limit or `stop`; `published` is set once all is sent and confirmed."""

    def __init__(self, connection: Connection, inbox: ChannelInbox, burst: PublishBurst, limit: int) -> None:
        """`limit` 0 is no limit. The confirm window, if any, is the inbox's."""
        self.inbox = inbox
        self.sent = 0
        self.first_sent = 0
        self.finished = 0
        self.published = asyncio.Event()
        self._connection = connection
        self._burst = burst
        self._limit = limit
        self._pacer: Pacer | None = None
        self._window: ConfirmWindow | None = inbox.confirms
        self._most = max(1, BURST_BYTES // burst.message_size)
        if self._window is not None:
            # two bursts to a window: the broker works on one while the other is confirmed
            self._most = min(self._most, (self._window.size + 1) // 2)
        self._loop = asyncio.get_running_loop()
        self._wake: asyncio.Handle | None = None
        self._started = False
        self._stopping = False
        self._flowing = True

    def start(self, pacer: Pacer | None) -> None:
        """Begin publishing, as fast as the connection takes it if there is no pacer."""
        self._pacer = pacer
        self._started = True
        self._pump()

    def stop(self) -> None:
        """Send no more; what awaits its confirm still does."""
        self._stopping = True
        if self._wake is not None:
            self._wake.cancel()
            self._wake = None
        self._settle()

    async def finish(self) -> None:
        """Wait until all is sent and confirmed, and until the broker has taken it. Raises PerfFailure."""
        await self.published.wait()
        if not self.finished:
            await self._connection.close_channel(self.inbox.number)
            self.finished = self._connection.clock()

    def received(self, now: int) -> None:
        if self._window is not None and self._wake is None:
            self._pump()

    def writable(self) -> None:
        if self._wake is None:
            self._pump()

    def flow(self, active: bool) -> None:
        self._flowing = active
        if active and self._wake is None:
            self._pump()

    def _settle(self) -> None:
        if self._window is None or self._window.unconfirmed() == 0:
            self.published.set()

    def _woken(self) -> None:
        self._wake = None
        self._pump()

    def _pump(self) -> None:
        """Write one burst if one may be written, and see to being called again."""
        if not self._started:
            return
        if self._stopping or (self._limit and self.sent >= self._limit):
            self._settle()
            return
        if not self._connection.writable or not self._flowing:
            return
        messages = self._most
        if self._limit:
            messages = min(messages, self._limit - self.sent)
        if self._window is not None:
            messages = min(messages, self._window.room())
            if messages <= 0:
                return
        if self._pacer is not None:
            allowed = self._pacer.allowance(self._loop.time())
            if allowed <= 0:
                self._sleep()
                return
            messages = min(messages, allowed)
        self._publish(messages)
        if self._limit and self.sent >= self._limit:
            self._settle()
        elif self._pacer is not None:
            self._sleep()
        else:
            self._wake = self._loop.call_soon(self._woken)

    def _sleep(self) -> None:
        if self._pacer is not None:
            self._wake = self._loop.call_at(self._pacer.next_due(self._loop.time()), self._woken)

    def _publish(self, messages: int) -> None:
        now = self._connection.clock()
        if not self.sent:
            self.first_sent = now
        self.sent += messages
        if self._window is not None:
            self._window.published(messages, now)
        if self._pacer is not None:
            self._pacer.spend(messages)
        self._connection.write(self._burst.encode(messages, now))


class Consumer(Agent):
    """Counts deliveries and acknowledges them: none, each, or one for every so many."""

    def __init__(self, connection: Connection, inbox: ChannelInbox, ack_every: int, limit: int) -> None:
        """`ack_every` 0: auto-ack; 1: each by itself; more: one `multiple` ack for so many.

        `limit` 0 is no limit.
        """
        self.inbox = inbox
        self.first_received = 0
        self.last_received = 0
        self.done = False
        self._connection = connection
        self._ack_every = ack_every
        self._limit = limit
        self._acks = AckBurst(inbox.number, multiple=ack_every > 1)
        self._acked = 0
        self._seen = 0

    def received(self, now: int) -> None:
        if self.inbox.deliveries == self._seen:
            return
        if not self._seen:
            self.first_received = now
        self._seen = self.inbox.deliveries
        self.last_received = now
        every = self._ack_every
        if every:
            first, last = self._acked + every, self.inbox.delivery_tag
            if first <= last:
                self._connection.write(self._acks.encode(first, last, every))
                self._acked = last - (last - self._acked) % every
        if self._limit and self._seen >= self._limit:
            self.done = True
            self.acknowledge_rest()

    def acknowledge_rest(self) -> None:
        """Acknowledge what a whole group is not yet there for."""
        last = self.inbox.delivery_tag
        if self._ack_every and last > self._acked:
            self._connection.write(AckBurst(self.inbox.number, multiple=True).encode(last, last, 1))
            self._acked = last

    def writable(self) -> None:
        """Acknowledgements are written at once, however full the connection is: nothing to resume."""

    def flow(self, active: bool) -> None:
        """Acknowledgements are not content: channel.flow does not concern them."""
