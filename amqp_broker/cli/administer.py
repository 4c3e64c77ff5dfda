"""The way from a command to a broker: through its control socket if it runs, else through its data directory.

What is wrong is one line on standard error and exit status 1. What a verb means is the business of `control`.
"""

from __future__ import annotations

import errno
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NoReturn

import typer

from amqp_broker.cli.flags import Format
from amqp_broker.cli.serve import describe, fail
from amqp_broker.cli.table import print_rows
from amqp_broker.config import Config, ConfigError, load_config


class Failed(Exception):
    """Why a command cannot be done, in one line."""


class Broker:
    """The one that `--config` and `--data-dir` name. config: read as `serve` reads it.

    make: a data directory that is not there is made.
    """

    def __init__(self, config_file: str | None, data_dir: str | None, *, make: bool = False) -> None:
        self._make = make
        try:
            self.config: Config = load_config(config_file, flags={"--data-dir": data_dir})
        except ConfigError as error:
            stop(str(error))

    def vhost(self, name: str | None) -> str:
        return self.config.auth.default_vhost if name is None else name

    def ask(self, verb: str, **arguments: object) -> Any:
        """What the verb comes to; what it changed is durable. Ends the command if it is refused."""
        from amqp_broker.control.verb import Refused
        from amqp_broker.store.errors import StoreError

        try:
            return perform(self.config, verb, arguments, make=self._make)
        except (Refused, StoreError, Failed) as error:
            stop(str(error))
        except OSError as error:
            stop(describe(error))

    def pages(self, verb: str, after: Callable[[dict[str, Any]], object], **arguments: object) -> list[Any]:
        """All rows of a verb that gives them in pages. after: says of the last row where the next page begins."""
        rows: list[Any] = []
        page = self.ask(verb, **arguments)
        while page:
            rows += page
            page = self.ask(verb, **arguments, after=after(page[-1]))
        return rows

    def show(self, rows: object, shape: Format) -> None:
        print_rows(rows, shape)


def perform(config: Config, verb: str, arguments: Mapping[str, Any], *, make: bool = False) -> object:
    """Raises Refused, Failed, StoreError or OSError."""
    from amqp_broker.server.control_place import connect
    from amqp_broker.store.errors import StoreError

    directory = config.data.directory
    if not make:
        _check_directory(directory)
    connected = connect(directory)
    if connected is None:
        from amqp_broker.server.stopped import perform_stopped

        try:
            return perform_stopped(config, verb, arguments)
        except StoreError as error:
            if error.code != errno.EWOULDBLOCK:
                raise
            # One that was starting may be up by now.
            connected = connect(directory)
            if connected is None:
                hint = "it does not answer on its control socket: it may be starting or stopping"
                raise Failed(f"{error}; {hint}") from None
    with connected:
        return _ask_running(connected, verb, arguments)


def _check_directory(directory: Path) -> None:
    """Whether there is a broker, running or not: a mistyped directory is not made into one."""
    from amqp_broker.store.environment import data_file

    try:
        there = directory.is_dir()
        stored = there and Path(data_file(str(directory))).exists()
    except PermissionError as error:
        raise Failed(
            f"{directory}: {error.strerror}: only the user that the broker runs as, and root, may change it"
        ) from None
    if not stored:
        raise Failed(f"{directory}: no broker runs here, and there are no data of one")


def _ask_running(connected: Any, verb: str, arguments: Mapping[str, Any]) -> object:
    from amqp_broker.control.request import read_answer, write_request
    from amqp_broker.server.control_place import exchange

    request = write_request(verb, dict(arguments))
    try:
        answer = exchange(connected, request)
    except TimeoutError:
        raise Failed("the broker does not answer; whether it does what it was asked is not known") from None
    if not answer:
        raise Failed("the broker ended before it answered; whether it did what it was asked is not known")
    return read_answer(answer)


def stop(message: str) -> NoReturn:
    raise typer.Exit(fail(message))


def new_password(stdin: bool, of: str) -> str:
    """The password for a user, asked for twice; from standard input if that is wanted.

    Not a flag: what stands on a command line is seen by everybody who lists processes, and stays in histories.
    """
    if stdin:
        return _from_stdin()
    password = _prompt(f"Password for {of}: ")
    if password != _prompt("The same again: "):
        stop("the two passwords differ")
    return password


def known_password(stdin: bool, of: str) -> str:
    return _from_stdin() if stdin else _prompt(f"Password of {of}: ")


def _from_stdin() -> str:
    try:
        text = sys.stdin.buffer.readline().decode()
    except UnicodeDecodeError:
        stop("the password on standard input is not UTF-8")
    return text.removesuffix("\n").removesuffix("\r")


def _prompt(text: str) -> str:
    """Without an echo. Ends the command where there is no terminal."""
    import getpass

    try:
        with open("/dev/tty", "rb"):
            pass
    except OSError:
        stop("there is no terminal to ask for the password on; --password-stdin reads it from standard input")
    try:
        return getpass.getpass(text)
    except (EOFError, KeyboardInterrupt):
        stop("no password was given")
