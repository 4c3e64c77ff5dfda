"""Topic routing (AMQP 0-9-1 section 3.1.3.3): which destinations a routing key reaches by its words.

Patterns live in a trie of words. A key is walked with the set of all nodes that its words so far can have
reached, so a node is looked at once a word however many ways lead to it: the cost follows the words of the
key and the patterns that begin like it, never the number of bindings. Recent results are remembered until a
binding changes. Arguments, permissions and what is done with a destination are no concern of this module.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Generic, TypeVar

from amqp_broker.broker.exchanges.base import Binding, Exchange
from amqp_broker.broker.exchanges.destinations import Destination, Destinations, in_order
from amqp_broker.content.header import ContentHeader
from amqp_broker.content.table import Field

if TYPE_CHECKING:
    from amqp_broker.broker.queue import Queue

D = TypeVar("D")

ONE_WORD: Final = "*"
ANY_WORDS: Final = "#"

# Remembered results hold at most this many destinations altogether, a key counting as one more.
CACHE_LIMIT: Final = 65536


def split_words(key: str) -> list[str]:
    """The words of a key or pattern. An empty word is a word, but the empty key has none (as in RabbitMQ)."""
    return key.split(".") if key else []


def canonical_words(pattern: str) -> list[str]:
    """The words of the one pattern that stands for all that match the same keys.

    In a run of wildcards only the number of `*` and the presence of `#` matter: `#.*.#` becomes `*.#`.
    """
    words: list[str] = []
    open_ended = False
    for word in split_words(pattern):
        if word == ANY_WORDS:
            open_ended = True
            continue
        if open_ended and word != ONE_WORD:
            words.append(ANY_WORDS)
            open_ended = False
        words.append(word)
    if open_ended:
        words.append(ANY_WORDS)
    return words


class _Bound(Generic[D]):
    """A destination at a node; count: the bindings that put it there."""

    __slots__ = ("count", "destination")

    def __init__(self, destination: Destination[D]) -> None:
        self.destination: Destination[D] = destination
        self.count: int = 0


class _Node(Generic[D]):
    """Where patterns with one beginning meet. repeats: the last word is `#`, so any word leads back here."""

    __slots__ = ("bound", "children", "repeats")

    def __init__(self, *, repeats: bool = False) -> None:
        self.children: dict[str, _Node[D]] = {}
        self.bound: dict[D, _Bound[D]] = {}
        self.repeats: bool = repeats


class TopicRouter(Generic[D]):
    """The bindings of one topic exchange."""

    __slots__ = ("_cache", "_cached", "_destinations", "_root")

    def __init__(self) -> None:
        self._root: _Node[D] = _Node()
        self._destinations: Destinations[D] = Destinations()
        self._cache: dict[str, list[D]] = {}
        self._cached: int = 0

    def bind(self, pattern: str, destination: D) -> None:
        """Add a binding. The same one again (other arguments, to the exchange) has to be unbound as often."""
        self._forget()
        node = self._root
        for word in canonical_words(pattern):
            child = node.children.get(word)
            if child is None:
                child = _Node(repeats=word == ANY_WORDS)
                node.children[word] = child
            node = child
        held = self._destinations.hold(destination)
        bound = node.bound.get(destination)
        if bound is None:
            bound = _Bound(held)
            node.bound[destination] = bound
        bound.count += 1

    def unbind(self, pattern: str, destination: D) -> None:
        """Remove a binding and every node only it needed; nothing happens if there is none."""
        words = canonical_words(pattern)
        path: list[_Node[D]] = [self._root]
        for word in words:
            child = path[-1].children.get(word)
            if child is None:
                return
            path.append(child)
        node = path.pop()
        bound = node.bound.get(destination)
        if bound is None:
            return
        self._forget()
        self._destinations.release(bound.destination)
        bound.count -= 1
        if bound.count:
            return
        del node.bound[destination]
        while path and not node.bound and not node.children:
            node = path.pop()
            del node.children[words[len(path)]]

    def match(self, routing_key: str) -> list[D]:
        """Each destination that a binding leads to, once, first bound first. Do not change the list."""
        result = self._cache.get(routing_key)
        if result is None:
            result = self._find(split_words(routing_key))
            cost = len(result) + 1
            if self._cached + cost > CACHE_LIMIT:
                self._forget()
            if cost <= CACHE_LIMIT:
                self._cache[routing_key] = result
                self._cached += cost
        return result

    def node_count(self) -> int:
        """How many nodes the trie has, its root included."""
        count = 0
        pending: list[_Node[D]] = [self._root]
        while pending:
            count += 1
            pending.extend(pending.pop().children.values())
        return count

    def _find(self, words: list[str]) -> list[D]:
        reached: set[_Node[D]] = set()
        _reach(self._root, reached)
        for word in words:
            following: set[_Node[D]] = set()
            for node in reached:
                children = node.children
                if node.repeats:
                    following.add(node)
                child = children.get(word)
                if child is not None:
                    _reach(child, following)
                child = children.get(ONE_WORD)
                if child is not None:
                    _reach(child, following)
            if not following:
                return []
            reached = following
        found: dict[int, D] = {}
        for node in reached:
            for bound in node.bound.values():
                found[bound.destination.order] = bound.destination.target
        return in_order(found)

    def _forget(self) -> None:
        if self._cached:
            self._cache.clear()
            self._cached = 0


def _reach(node: _Node[D], reached: set[_Node[D]]) -> None:
    """Add a node and the `#` after it, which need not take a word; no second `#` follows that one."""
    reached.add(node)
    open_ended = node.children.get(ANY_WORDS)
    if open_ended is not None:
        reached.add(open_ended)


class TopicExchange(Exchange):
    """Routes by patterns of words."""

    kind = "topic"
    __slots__ = ("router",)

    def __init__(self, name: str, vhost_name: str, arguments: dict[str, Field]) -> None:
        super().__init__(name, vhost_name, arguments)
        self.each_key = True
        self.router: TopicRouter[Queue | Exchange] = TopicRouter()

    def add(self, binding: Binding) -> None:
        self.router.bind(binding.routing_key, binding.destination)

    def remove(self, binding: Binding) -> None:
        self.router.unbind(binding.routing_key, binding.destination)

    def match(self, routing_key: str, header: ContentHeader) -> list[Queue | Exchange]:
        return self.router.match(routing_key)
