"""The reference model of queues with features: lists, sorted and cut, that foretell every delivery and every death.

One consumer a queue at most, so that nothing is left to choose. What a crash leaves is what a copy of the model
shows that was made when the last written batch was sealed.
"""

from __future__ import annotations

from copy import deepcopy

NEVER = 1 << 60


class Copy:
    """A message in one queue. seq: rises in publish order. expiry: milliseconds. deliveries: how often it came back."""

    def __init__(self, body: bytes, persistent: bool, priority: int, seq: int) -> None:
        self.body = body
        self.persistent = persistent
        self.priority = priority
        self.seq = seq
        self.expiry = NEVER
        self.deliveries = 0


class Rules:
    """What the arguments of a queue come to; dead_letters: the queue that its dead letters go to."""

    def __init__(
        self,
        *,
        ttl: int = NEVER,
        length: int = NEVER,
        octets: int = NEVER,
        refuses: bool = False,
        priorities: int = 0,
        delivery_limit: int = NEVER,
        dead_letters: str = "",
    ) -> None:
        self.ttl = ttl
        self.length = length
        self.octets = octets
        self.refuses = refuses
        self.priorities = priorities
        self.delivery_limit = delivery_limit
        self.dead_letters = dead_letters

    def arguments(self) -> dict[str, object]:
        found: dict[str, object] = {}
        for name, value in (
            ("x-message-ttl", self.ttl),
            ("x-max-length", self.length),
            ("x-max-length-bytes", self.octets),
            ("x-delivery-limit", self.delivery_limit),
        ):
            if value != NEVER:
                found[name] = value
        if self.refuses:
            found["x-overflow"] = "reject-publish"
        if self.priorities:
            found["x-max-priority"] = self.priorities
        if self.dead_letters:
            found |= {"x-dead-letter-exchange": "", "x-dead-letter-routing-key": self.dead_letters}
        return found


class Model:
    """All queues, the time, and what the broker must have delivered since somebody looked (`due`)."""

    def __init__(self, rules: dict[str, Rules], now: int) -> None:
        self.now = now
        self.queues = {name: FeatureQueue(self, name, each) for name, each in rules.items()}
        self.due: list[tuple[str, bytes, bool]] = []

    def pass_time(self, milliseconds: int) -> None:
        self.now += milliseconds
        for queue in self.queues.values():
            queue.drop_expired()

    def after_crash(self, now: int) -> Model:
        """What a start finds, this being a copy of what was durable; then its first turn."""
        found = deepcopy(self)
        found.now = now
        found.due = []
        for queue in found.queues.values():
            queue.recover()
        for queue in found.queues.values():
            queue.drop_expired()
            queue.trim()
        return found


class FeatureQueue:
    """prefetch: of its consumer, 0 if it has none. consumed, got: what is out, by whom it was taken."""

    def __init__(self, model: Model, name: str, rules: Rules) -> None:
        self.model = model
        self.name = name
        self.rules = rules
        self.ready: list[Copy] = []
        self.consumed: list[Copy] = []
        self.got: list[Copy] = []
        self.prefetch = 0
        self.last_seq = 0
        # By rank.
        self.watermarks: dict[int, int] = {}

    def octets(self) -> int:
        return sum(len(copy.body) for copy in self.ready)

    def publish(self, body: bytes, persistent: bool, priority: int, expiration: int = NEVER) -> bool:
        """False if it is refused."""
        rules = self.rules
        full = len(self.ready) + 1 > rules.length or self.octets() + len(body) > rules.octets
        if rules.refuses and full:
            return False
        self.last_seq += 1
        copy = Copy(body, persistent, priority, self.last_seq)
        copy.expiry = self.model.now + min(rules.ttl, expiration)
        if len(self.consumed) < self.prefetch:
            self.deliver(copy)
            return True
        self.put(copy)
        self.trim()
        return True

    def put(self, *copies: Copy) -> None:
        self.ready += copies
        self.ready.sort(key=self._place)

    def deliver(self, copy: Copy) -> None:
        self.handed_out(copy)
        self.consumed.append(copy)
        self.model.due.append((self.name, copy.body, copy.deliveries > 0))

    def handed_out(self, copy: Copy) -> None:
        if copy.persistent:
            rank = self._place(copy)[0]
            self.watermarks[rank] = max(self.watermarks.get(rank, 0), copy.seq)

    def trim(self) -> None:
        rules = self.rules
        while not rules.refuses and (len(self.ready) > rules.length or self.octets() > rules.octets):
            self.die(self.ready.pop(0))

    def drop_expired(self) -> None:
        while self.ready and self.ready[0].expiry <= self.model.now:
            self.die(self.ready.pop(0))

    def pump(self) -> None:
        dead = []
        while self.ready and len(self.consumed) < self.prefetch:
            copy = self.ready.pop(0)
            if copy.expiry <= self.model.now:
                dead.append(copy)
            else:
                self.deliver(copy)
        for copy in dead:
            self.die(copy)

    def die(self, copy: Copy) -> None:
        if self.rules.dead_letters:
            self.model.queues[self.rules.dead_letters].publish(copy.body, copy.persistent, copy.priority)

    def get(self) -> Copy | None:
        self.drop_expired()
        if not self.ready:
            return None
        copy = self.ready.pop(0)
        self.handed_out(copy)
        self.got.append(copy)
        self.drop_expired()
        return copy

    def taken(self, body: bytes, consumed: bool) -> Copy:
        """What is out with this body, settled now."""
        out = self.consumed if consumed else self.got
        (copy,) = [copy for copy in out if copy.body == body]
        out.remove(copy)
        return copy

    def requeue(self, copies: list[Copy]) -> None:
        back = []
        for copy in copies:
            copy.deliveries += 1
            if copy.deliveries > self.rules.delivery_limit:
                self.die(copy)
            else:
                back.append(copy)
        self.put(*back)
        if back:
            self.trim()
            self.drop_expired()
        self.pump()

    def recover(self) -> None:
        everything = [*self.ready, *self.consumed, *self.got]
        self.ready, self.consumed, self.got, self.prefetch = [], [], [], 0
        kept = [copy for copy in everything if copy.persistent]
        for copy in kept:
            counted = copy.deliveries if self.rules.delivery_limit != NEVER else 0
            handed_out = copy.seq <= self.watermarks.get(self._place(copy)[0], 0)
            copy.deliveries = max(counted, int(handed_out))
        self.put(*kept)
        self.last_seq = max([0, *self.watermarks.values(), *(copy.seq for copy in kept)])

    def stored(self) -> list[bytes]:
        kept = [copy for copy in [*self.ready, *self.consumed, *self.got] if copy.persistent]
        # The store has each priority by itself, the highest first.
        return [copy.body for copy in sorted(kept, key=self._place)]

    def _place(self, copy: Copy) -> tuple[int, int]:
        return -min(copy.priority, self.rules.priorities), copy.seq
