"""What RabbitMQ said, kept in the repository, so that a machine without one can compare too.

A file for each group of conversations, with the version that was asked: one conversation a line. Beside them
`here.json` has what this broker says where it is known to differ, so that a known difference is one exact
difference and no licence for others. Steps that were answered with nothing are empty lists.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from .running import Answers

FOLDER: Final = Path(__file__).with_name("recordings")
HERE: Final = "here"


def group_of(name: str) -> str:
    return name.partition("/")[0]


def _compact(value: Any) -> str:
    return json.dumps(value, separators=(",", ":"))


def write(group: str, said_by: str, answers: Answers) -> None:
    """One group's file, in the order of the names."""
    FOLDER.mkdir(exist_ok=True)
    lines = [f"{_compact(name)}:{_compact(answers[name])}" for name in sorted(answers)]
    inside = ",\n".join(lines)
    text = f'{{"said_by":{_compact(said_by)},\n"conversations":{{\n{inside}\n}}}}\n'
    (FOLDER / f"{group}.json").write_text(text)


def read(group: str) -> tuple[str, Answers]:
    """(who said it, the answers); nobody and nothing where there is no recording."""
    path = FOLDER / f"{group}.json"
    if not path.exists():
        return "", {}
    content = json.loads(path.read_text())
    return content["said_by"], content["conversations"]


def read_all(names: Iterable[str]) -> Answers:
    """The recorded answers to the conversations with these names, as far as there are any."""
    answers: Answers = {}
    wanted = set(names)
    for group in sorted({group_of(name) for name in wanted}):
        answers |= {name: said for name, said in read(group)[1].items() if name in wanted}
    return answers


def by_group(answers: Mapping[str, Any]) -> dict[str, Answers]:
    groups: dict[str, Answers] = {}
    for name, said in answers.items():
        groups.setdefault(group_of(name), {})[name] = said
    return groups
