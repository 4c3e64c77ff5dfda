"""Arguments of what was declared, for as long as it is there: a table takes up to fifty times its octets in memory.

A handful of plain values is kept as it came. Of a table that holds others, or very many values, all is kept as octets,
which are read again for who wants to see all of it, and beside them only what the broker itself looks up. What an
argument means is not known here.
"""

from __future__ import annotations

from typing import Final

from amqp_broker.broker.argument_table import Argument
from amqp_broker.content.table import Field, read_table, write_table

# Values that are kept as they came.
MOST_PLAIN: Final = 64


def packed(arguments: dict[str, Field]) -> bytes:
    """All of them as octets, b"" if they may be kept as they are."""
    if len(arguments) <= MOST_PLAIN:
        for field in arguments.values():
            if field.kind == "F" or field.kind == "A":
                break
        else:
            return b""
    return write_table(arguments)


def looked_up(arguments: dict[str, Field], octets: bytes, rows: dict[str, Argument]) -> dict[str, Field]:
    """Those to be kept as they are, where `packed` said `octets`. rows: of the arguments that the broker looks up."""
    if not octets:
        return arguments
    return {name: arguments[name] for name in rows if name in arguments}


def whole(octets: bytes, arguments: dict[str, Field]) -> dict[str, Field]:
    """All of them again. Do not change the table."""
    return read_table(octets, 0)[0] if octets else arguments
