"""What is wrong with a configuration, said in one line.

A `ConfigError` knows where the value came from (file and line, environment variable or flag), which option it
was meant for, what it was, what would be allowed and, for a name nobody declared, the nearest declared one.
It never carries the value of an option that is declared secret.
"""

from __future__ import annotations


class ConfigError(Exception):
    """A configuration that cannot be used.

    source: a file's path, `environment variable NAME` or a flag.
    key: the dotted path of the option, "" if the problem is the source as a whole.
    value: the offending value as the user would write it, "" if there is none to show.
    problem: what is wrong or what is allowed.
    line: one-based line in the file, 0 if it has none.
    suggestion: the dotted path of the nearest option, "" if none is near.
    """

    def __init__(
        self,
        source: str,
        problem: str,
        *,
        key: str = "",
        value: str = "",
        line: int = 0,
        suggestion: str = "",
    ) -> None:
        super().__init__(source, problem, key, value, line, suggestion)
        self.source = source
        self.problem = problem
        self.key = key
        self.value = value
        self.line = line
        self.suggestion = suggestion

    def __str__(self) -> str:
        parts = [f"{self.source}:{self.line}" if self.line else self.source]
        if self.key:
            parts.append(f"{self.key} = {self.value}" if self.value else self.key)
        parts.append(f"{self.problem}; did you mean {self.suggestion}?" if self.suggestion else self.problem)
        return ": ".join(parts)
