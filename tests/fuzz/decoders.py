"""Octets for the decoders alone: tables, content headers, methods, streams of frames, logins, PROXY headers.

Each decoder has one function here that raises `Illegal`, or whatever the decoder should not have raised, and otherwise
returns: nothing but its declared errors may come out, and what it took it must give back when it writes it again. The
same functions are driven by coverage in `tests.fuzz.guided`.
"""

from __future__ import annotations

import random
import traceback
from collections import Counter
from collections.abc import Callable
from typing import Final, NamedTuple

from amqp_broker.content.erlang import value_term
from amqp_broker.content.header import HeaderError, parse_header, rebuilt
from amqp_broker.content.table import Field, TableError, check_table, read_table, write_table
from amqp_broker.errors import HardError
from amqp_broker.server.proxy import MalformedHeader, parse_binary, parse_line
from amqp_broker.session.auth import LoginRefused, read_response
from amqp_broker.wire.methods import decode_method, encode_method
from amqp_broker.wire.reader import FrameReader
from tests.conversations import codec
from tests.fuzz.judge import Illegal
from tests.fuzz.phrases import EVERYDAY, FIELDS, LOGINS, Speech
from tests.fuzz.speech import ChannelView, Voice
from tests.fuzz.stories import cuts_in, what_failed
from tests.fuzz.values import EXCHANGE_ARGUMENTS, HEADERS, QUEUE_ARGUMENTS, U16, U64, Values
from tests.wire.recorder import Call, Recorder

FRAME_MAX: Final = 4096
LARGEST: Final = 100_000


def try_table(octets: bytes) -> None:
    limit = len(octets)
    try:
        table, end = read_table(octets, 0)
    except TableError:
        try:
            check_table(octets, 0, limit)
        except TableError:
            return
        raise Illegal("a table is in order when it is checked, and not when it is read") from None
    if check_table(octets, 0, limit) != end:
        raise Illegal("a table ends elsewhere when it is checked than when it is read")
    value_term(Field("F", table))
    written = write_table(table)
    if written != octets[:end]:
        again, _ = read_table(written, 0)
        if Field("F", again) != Field("F", table) or len(written) > end:
            raise Illegal("a table is another one when it is written and read again")


def try_header(octets: bytes) -> None:
    try:
        header = parse_header(octets)
    except HeaderError:
        return
    found = header.properties()
    for ask in (
        header.content_type,
        header.correlation_id,
        header.reply_to,
        header.message_id,
        header.user_id,
    ):
        ask()
    if ("timestamp" in found) != (header.timestamp() is not None):
        raise Illegal("a content header does not know whether it has a timestamp")
    again = rebuilt(header, {})
    if again.properties() != found or again.body_size != header.body_size:
        raise Illegal("a content header is another one when it is put together again")


def try_method(octets: bytes) -> None:
    try:
        method = decode_method(octets)
    except HardError as error:
        if error.code not in (501, 540):
            raise Illegal(f"a method that cannot be decoded is answered with {error.code}") from None
        return
    try:
        codec.decode_method(octets)
    except RecursionError:
        pass
    except (AssertionError, KeyError, ValueError) as error:
        raise Illegal(f"a method is decoded that no other codec can: {error!r}") from None
    if decode_method(encode_method(method)).index != method.index:
        raise Illegal("a method is another one when it is encoded and decoded again")


def heard(pieces: list[bytes]) -> tuple[list[Call], str]:
    """What a reader makes of octets that come in these pieces: its calls, and the error that it ends with."""
    recorder = Recorder()
    reader = FrameReader(recorder, FRAME_MAX, LARGEST)
    problem = ""
    for piece in pieces:
        data = piece
        while True:
            try:
                reader.feed(data)
                break
            except HardError as error:
                problem += f"{error.code} {error.text} {error.class_id}.{error.method_id}; "
                recorder.closing = True
                reader.drop_contents()
                data = b""
            except (IndexError, ValueError):
                # Connection does the same for a publish that it cannot read.
                return recorder.calls, problem + "malformed publish"
    return recorder.calls, problem


def try_stream(octets: bytes, draw: random.Random | None = None) -> None:
    draw = draw or random.Random(octets)
    whole = heard([octets])
    cuts = (0, *cuts_in(octets, draw), len(octets))
    pieces = [octets[start:end] for start, end in zip(cuts, cuts[1:], strict=False)]
    split = heard(pieces)
    if split != whole:
        raise Illegal(f"a stream split at {cuts} is heard as {split}, and not as {whole}")


def try_login(octets: bytes) -> None:
    mechanism, _, response = octets.partition(b"|")
    try:
        name, password = read_response(mechanism.decode("latin-1"), response, "")
    except LoginRefused:
        return
    if password is None:
        raise Illegal(f"{name!r} is in without a password")


def try_proxy_header(octets: bytes) -> None:
    for ask in (lambda: parse_line(octets), lambda: parse_binary(octets[0], octets[1], octets[2:])):
        if len(octets) >= 2:
            try:
                ends = ask()
            except MalformedHeader:
                continue
            if ends is not None and not all(0 <= port < 65536 for _, port in ends):
                raise Illegal(f"a PROXY header is read as {ends}")


def some_table(values: Values) -> bytes:
    draw = values.random()
    if draw < 0.6:
        return values.odd_table()
    table = values.arguments(values.one((HEADERS, QUEUE_ARGUMENTS, EXCHANGE_ARGUMENTS)), 1.0)
    return values.garbled(table) if draw < 0.85 else table


def some_header(values: Values) -> bytes:
    draw = values.random()
    properties = values.properties()
    if draw < 0.2:
        properties = U16(values.below(65536)) + values.octets(values.below(40))
    elif draw < 0.4:
        properties = b"\x20\0" + values.odd_table()
    octets = b"\0\x3c\0\0" + U64(values.below(1 << 20)) + properties
    return values.garbled(octets) if draw > 0.6 else octets


def some_method(values: Values) -> bytes:
    voice, view = Voice(values, careful=True), ChannelView()
    octets = voice.method(1, view, values.one((*EVERYDAY, *FIELDS)))[1][7:-1]
    return values.garbled(octets) if values.random() < 0.75 else octets


def some_stream(values: Values) -> bytes:
    """What one client says after its handshake, a few frames of it, with and without mistakes."""
    voice = Voice(values, careful=True, wildness=values.one((0.1, 0.4)))
    voice.phase, voice.frame_max = 4, FRAME_MAX
    speeches: list[Speech] = [voice.next() for _ in range(values.one((2, 4, 12)))]
    octets = b"".join(speech.octets for speech in speeches)
    return values.garbled(octets) if values.random() < 0.15 else octets


def some_login(values: Values) -> bytes:
    mechanism, response = values.one(LOGINS)
    if values.random() < 0.1:
        mechanism = values.one((b"EXTERNAL", b"", b"plain", b"\xff"))
    return mechanism + b"|" + (values.garbled(response) if values.random() < 0.9 else response)


def some_proxy_header(values: Values) -> bytes:
    if values.random() < 0.5:
        hosts = (b"192.0.2.1", b"::1", b"::ffff:192.0.2.1", b"fe80::1%eth0", b"", b"256.1.1.1", b"0")
        parts = [values.one((b"TCP4", b"TCP6", b"UNKNOWN", b"")), values.one(hosts), values.one(hosts)]
        parts += [values.one((b"1", b"65535", b"65536", b"-1", b"01", b"\xb2")) for _ in range(2)]
        line = b"PROXY " + b" ".join(parts) + b"\r\n"
        return values.garbled(line) if values.random() < 0.5 else line
    command = values.one((0x20, 0x21, 0x21, 0x21, values.below(256)))
    family = values.one((0, 0x11, 0x21, 0x31, values.below(256)))
    return bytes((command, family)) + values.octets(values.one((0, 11, 12, 13, 36, 216, 300)))


class Decoder(NamedTuple):
    kind: str
    some: Callable[[Values], bytes]
    attempt: Callable[[bytes], None]


DECODERS: Final = (
    Decoder("tables", some_table, try_table),
    Decoder("content headers", some_header, try_header),
    Decoder("methods", some_method, try_method),
    Decoder("streams", some_stream, try_stream),
    Decoder("logins", some_login, try_login),
    Decoder("PROXY headers", some_proxy_header, try_proxy_header),
)
BY_KIND: Final = {decoder.kind: decoder for decoder in DECODERS}


class Undecoded(Exception):
    """A decoder did what it must not. octets: for which."""

    def __init__(self, decoder: Decoder, octets: bytes, error: Exception) -> None:
        super().__init__(f"{decoder.kind}: {what_failed(error)}")
        self.kind = decoder.kind
        self.octets = octets
        self.details = "".join(traceback.format_exception(error))


def fewest(failed: Undecoded) -> bytes:
    """Fewer octets for which the same decoder fails in the same way."""
    attempt = BY_KIND[failed.kind].attempt

    def fails(octets: bytes) -> bool:
        try:
            attempt(octets)
        except Exception as error:
            return f"{failed.kind}: {what_failed(error)}" == str(failed)
        return False

    octets, size = failed.octets, len(failed.octets) // 2
    while size:
        at = 0
        while at < len(octets):
            fewer = octets[:at] + octets[at + size :]
            if fails(fewer):
                octets = fewer
            else:
                at += size
        size //= 2
    return octets


class Decoding:
    """kinds: inputs so far. Each batch has its own draws, so that it can be repeated."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.kinds: Counter[str] = Counter()

    def batch(self, number: int, size: int = 400) -> None:
        """Raises Undecoded."""
        values = Values(random.Random(f"decoders {self.seed}:{number}"))
        for _ in range(size):
            decoder = values.one(DECODERS)
            octets = decoder.some(values)
            self.kinds[f"decoder: {decoder.kind}"] += 1
            try:
                decoder.attempt(octets)
            except Exception as error:
                raise Undecoded(decoder, octets, error) from error
