"""What is wrong with a file of definitions, and where in it."""

from __future__ import annotations


class Problem:
    """path: of the value in the JSON text, such as $.queues[3].durable."""

    def __init__(self, path: str, text: str) -> None:
        self.path = path
        self.text = text

    def __str__(self) -> str:
        return f"{self.path}: {self.text}"


class InvalidDefinitions(Exception):
    """Definitions that cannot be loaded; problems: all of them, in the order of the file."""

    def __init__(self, problems: list[Problem]) -> None:
        super().__init__("\n".join(map(str, problems)))
        self.problems = problems
