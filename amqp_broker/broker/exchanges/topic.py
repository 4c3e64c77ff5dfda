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
    """Where patterns with one beginning meet. one, open_ended: its children by `*` and by `#`, which are in `children`
    like all others. mark: the step of the last search that came here.
    """

    __slots__ = ("bound", "children", "mark", "one", "open_ended")

    def __init__(self) -> None:
        self.children: dict[str, _Node[D]] = {}
        self.one: _Node[D] | None = None
        self.open_ended: _Node[D] | None = None
        self.bound: dict[D, _Bound[D]] = {}
        self.mark: int = 0

    def put(self, word: str, child: _Node[D]) -> None:
        self.children[word] = child
        self._note(word, child)

    def remove(self, word: str) -> None:
        del self.children[word]
        self._note(word, None)

    def _note(self, word: str, child: _Node[D] | None) -> None:
        if word == ONE_WORD:
            self.one = child
        elif word == ANY_WORDS:
            self.open_ended = child


class _Search(Generic[D]):
    """A walk through the trie. reached: the nodes that all words so far lead to; repeating: those of `#`, which any
    further word leads to as well, so they stay; ends: those of them that nothing comes after. step: rises with each
    word of each search.
    """

    __slots__ = ("ends", "reached", "repeating", "start", "step")

    def __init__(self, root: _Node[D], step: int) -> None:
        self.start: int = step
        self.step: int = step
        self.reached: list[_Node[D]] = []
        self.repeating: list[_Node[D]] = []
        self.ends: list[_Node[D]] = []
        self._come_to(root)

    def go(self, word: str) -> None:
        """One word further."""
        self.step += 1
        before = self.reached
        self.reached = []
        # Whoever joins them now did so by this word.
        staying = len(self.repeating)
        for at in range(staying):
            child = self.repeating[at].children.get(word)
            if child is not None and child.mark != self.step:
                self._come_to(child)
        for node in before:
            child = node.children.get(word)
            if child is not None and child.mark != self.step:
                self._come_to(child)
            child = node.one
            if child is not None and child.mark != self.step:
                self._come_to(child)

    def _come_to(self, node: _Node[D]) -> None:
        """Be at a node, and at the `#` after it, which need not take a word; no second `#` follows that one."""
        node.mark = self.step
        self.reached.append(node)
        open_ended = node.open_ended
        if open_ended is not None and open_ended.mark < self.start:
            open_ended.mark = self.step
            (self.repeating if open_ended.children else self.ends).append(open_ended)


class TopicRouter(Generic[D]):
    """The bindings of one topic exchange."""

    __slots__ = ("_cache", "_cached", "_destinations", "_root", "_step")

    def __init__(self) -> None:
        self._root: _Node[D] = _Node()
        self._destinations: Destinations[D] = Destinations()
        self._cache: dict[str, list[D]] = {}
        self._cached: int = 0
        self._step: int = 0

    def bind(self, pattern: str, destination: D) -> None:
        """Add a binding. The same one again (other arguments, to the exchange) has to be unbound as often."""
        self._forget()
        node = self._root
        for word in canonical_words(pattern):
            child = node.children.get(word)
            if child is None:
                child = _Node()
                node.put(word, child)
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
            node.remove(words[len(path)])

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
        first = self._step + 1
        # Before it begins: what a search that breaks off has marked is of no step that comes.
        self._step = first + len(words)
        search = _Search(self._root, first)
        for word in words:
            search.go(word)
        found: dict[int, D] = {}
        for nodes in (search.reached, search.repeating, search.ends):
            for node in nodes:
                for bound in node.bound.values():
                    found[bound.destination.order] = bound.destination.target
        return in_order(found)

    def _forget(self) -> None:
        if self._cached:
            self._cache.clear()
            self._cached = 0


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
