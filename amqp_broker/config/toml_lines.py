"""Where a key stands in a TOML text.

tomllib says nothing about positions, so after an error the text is looked through once more. The text has
been parsed before: this only has to tell keys from the insides of strings, arrays and comments, not to
judge it.
"""

from __future__ import annotations

import re
from typing import Final

_SKIPPED: Final = re.compile(
    r"""
      "{3}(?: [^"\\] | \\. | "(?!"") )*"{3}
    | '{3}.*?'{3}
    | "(?: [^"\\\n] | \\. )*"
    | '[^'\n]*'
    | \#[^\n]*
    """,
    re.DOTALL | re.VERBOSE,
)
_NAME: Final = r"""(?:[A-Za-z0-9_-]+|"[^"]*"|'[^']*')"""
_NAMES: Final = re.compile(_NAME)
_HEADER: Final = re.compile(r"\s*\[\[?([^\[\]]+)\]\]?")
_KEY: Final = re.compile(rf"\s*({_NAME}(?:\s*\.\s*{_NAME})*)\s*=")


def find_line(text: str, path: tuple[str, ...]) -> int:
    """The one-based line of a key or table, or of the nearest one that contains it; 0 if there is none."""
    best_line, best_length = 0, 0
    for line, found in _statements(text):
        length = len(found)
        if found == path[:length] and length > best_length:
            best_line, best_length = line, length
        elif found[: len(path)] == path:
            # `[a.b]` or `a.b = 1` also introduces `a`.
            return line
        if best_length == len(path):
            break
    return best_line


def _statements(text: str) -> list[tuple[int, tuple[str, ...]]]:
    """The full path of every table header and key, with its line, in order."""
    blanked = _SKIPPED.sub(_blank, text)
    statements = []
    table: tuple[str, ...] = ()
    depth = 0
    pairs = zip(blanked.split("\n"), text.split("\n"), strict=True)
    for number, (line, original) in enumerate(pairs, start=1):
        if depth == 0:
            # Quoted keys were blanked with the strings, so keys are read from the line as it was written;
            # one whose equals sign was blanked too stands inside a string.
            if line.lstrip().startswith("["):
                header = _HEADER.match(original)
                if header is not None:
                    table = _parts(header[1])
                    statements.append((number, table))
                continue
            key = _KEY.match(original)
            if key is not None and line[key.end() - 1] == "=":
                statements.append((number, table + _parts(key[1])))
        depth = max(0, depth + line.count("[") + line.count("{") - line.count("]") - line.count("}"))
    return statements


def _blank(match: re.Match[str]) -> str:
    """A string or comment without its content but with its line breaks."""
    return "\n".join("_" * len(part) for part in match[0].split("\n"))


def _parts(dotted: str) -> tuple[str, ...]:
    return tuple(part.strip("\"'") for part in _NAMES.findall(dotted))
