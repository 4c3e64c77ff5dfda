"""The line that a message names is the line on which the key stands."""

from __future__ import annotations

import pytest

from amqp_broker.config.toml_lines import find_line

TEXT = '''\
# level = 1
top = "a # b = c"
[log]  # the log
text = """
level = 2
"""
words = [
  "level = 3", # level = 4
  "]",
]
level = 5
"quoted" = 6
[auth]
default_permissions = { read = 7, write = 8 }
[ protocol . "odd" ]
a.b.c = 9
path = 'C:\\'
last = """\\""" level = 10 """
end = 11
'''


@pytest.mark.parametrize(
    ("path", "line"),
    [
        ("top", 2),
        ("log", 3),
        ("log.text", 4),
        ("log.words", 7),
        ("log.level", 11),
        ("log.quoted", 12),
        ("auth.default_permissions", 14),
        ("auth.default_permissions.read", 14),
        ("auth.missing", 13),
        ("protocol", 15),
        ("protocol.odd.a.b.c", 16),
        ("protocol.odd.a", 16),
        ("protocol.odd.path", 17),
        ("protocol.odd.end", 19),
        ("missing", 0),
    ],
)
def test_a_key_is_found_on_its_line(path: str, line: int) -> None:
    assert find_line(TEXT, tuple(path.split("."))) == line
