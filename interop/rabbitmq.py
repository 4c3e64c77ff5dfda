"""A private RabbitMQ to compare with: starts the installed server in a temporary home, and stops it all.

Nothing of the machine's own RabbitMQ is touched: the node, its port mapper (epmd) and its distribution port
live on free ports, its data, logs and cookie in a folder that is removed at the end. As a program it prints
the AMQP port on one line when the server answers, and stops on SIGTERM or SIGINT; as a module it offers
`running_rabbitmq()`, and `running_node()` for who wants to run rabbitmqctl too. It never installs anything and
never changes a server it did not start.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import FrameType

START_SECONDS = 60.0
STOP_SECONDS = 20.0
PROTOCOL_HEADER = b"AMQP\x00\x00\x09\x01"


class RabbitMQUnavailable(RuntimeError):
    """The server is not installed here, or did not come up; the message says which and shows its last
    output.
    """


class Node:
    """A running RabbitMQ of our own. port: where it speaks AMQP on 127.0.0.1."""

    def __init__(self, port: int, environment: Mapping[str, str]) -> None:
        self.port = port
        self._environment = environment

    def control(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """`rabbitmqctl` with these arguments, against this node and no other."""
        own = Path("/usr/lib/rabbitmq/bin/rabbitmqctl")
        command = str(own) if own.exists() else "rabbitmqctl"
        return subprocess.run(
            [command, *arguments], env=dict(self._environment), capture_output=True, text=True, check=False
        )


def free_port() -> int:
    """A TCP port of the loopback interface that nobody listened on a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def server_script() -> str:
    found = shutil.which("rabbitmq-server")
    if found is None:
        raise RabbitMQUnavailable("rabbitmq-server is not on PATH (Debian: apt-get install rabbitmq-server)")
    # Debian's command is a wrapper that switches to another user; this is the script it then runs
    own = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")
    return str(own) if own.exists() else found


def port_mapper() -> str | None:
    beside_erlang = sorted(Path("/usr/lib/erlang").glob("erts-*/bin/epmd"))
    return shutil.which("epmd") or (str(beside_erlang[-1]) if beside_erlang else None)


def prepare_home(home: Path, port: int, settings: Mapping[str, str], plugins: Sequence[str]) -> None:
    for folder in ("mnesia", "log"):
        (home / folder).mkdir()
    lines = {"listeners.tcp.default": f"127.0.0.1:{port}", "loopback_users": "none"} | dict(settings)
    (home / "rabbitmq.conf").write_text("".join(f"{key} = {value}\n" for key, value in lines.items()))
    (home / "enabled_plugins").write_text(f"[{','.join(plugins)}].")


def server_environment(home: Path, port: int, epmd_port: int) -> dict[str, str]:
    return os.environ | {
        "HOME": str(home),
        "ERL_EPMD_PORT": str(epmd_port),
        "RABBITMQ_NODENAME": f"oracle{port}@localhost",
        "RABBITMQ_NODE_PORT": str(port),
        "RABBITMQ_DIST_PORT": str(free_port()),
        "RABBITMQ_MNESIA_BASE": str(home / "mnesia"),
        "RABBITMQ_LOG_BASE": str(home / "log"),
        "RABBITMQ_CONFIG_FILE": str(home / "rabbitmq.conf"),
        "RABBITMQ_ENABLED_PLUGINS_FILE": str(home / "enabled_plugins"),
        "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "+sbwt none +sbwtdcpu none +sbwtdio none",
    }


def answers(port: int) -> bool:
    """Whether an AMQP server on that port replies to the protocol header."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1.0) as probe:
            probe.sendall(PROTOCOL_HEADER)
            return probe.recv(1) == b"\x01"
    except OSError:
        return False


def wait_until_ready(server: subprocess.Popen[bytes], port: int, output: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while not answers(port):
        if server.poll() is not None or time.monotonic() > deadline:
            tail = output.read_text(errors="replace")[-2000:]
            raise RabbitMQUnavailable(f"rabbitmq-server did not come up on port {port}:\n{tail}")
        time.sleep(0.2)


def stop_group(leader: subprocess.Popen[bytes]) -> None:
    """End a process that leads its own group, and the group with it: politely first, then at once."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(leader.pid, signal.SIGTERM)
    with contextlib.suppress(subprocess.TimeoutExpired):
        leader.wait(STOP_SECONDS)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(leader.pid, signal.SIGKILL)
    leader.wait()


@contextlib.contextmanager
def running_rabbitmq(port: int = 0, settings: Mapping[str, str] | None = None) -> Iterator[int]:
    """A RabbitMQ of our own for the length of the block; yields its AMQP port on 127.0.0.1.

    `settings` are further lines of its configuration file. Raises RabbitMQUnavailable.
    """
    with running_node(port, settings) as node:
        yield node.port


@contextlib.contextmanager
def running_node(
    port: int = 0, settings: Mapping[str, str] | None = None, plugins: Sequence[str] = ()
) -> Iterator[Node]:
    """The same, with a way to run rabbitmqctl; `plugins` are switched on."""
    script, mapper = server_script(), port_mapper()
    if mapper is None:
        raise RabbitMQUnavailable("epmd, Erlang's port mapper, was not found")
    port, epmd_port = port or free_port(), free_port()
    home = Path(tempfile.mkdtemp(prefix="rabbitmq-"))
    started: list[subprocess.Popen[bytes]] = []
    try:
        prepare_home(home, port, settings or {}, plugins)
        environment = server_environment(home, port, epmd_port)
        output = home / "output"
        with output.open("wb") as sink:
            # a port mapper started by the server itself would be a daemon that outlives it
            for command in ([mapper, "-port", str(epmd_port)], [script]):
                started.append(
                    subprocess.Popen(
                        command,
                        env=environment,
                        stdin=subprocess.DEVNULL,
                        stdout=sink,
                        stderr=subprocess.STDOUT,
                        start_new_session=True,
                    )
                )
        wait_until_ready(started[-1], port, output)
        yield Node(port, environment)
    finally:
        for process in reversed(started):
            stop_group(process)
        shutil.rmtree(home, ignore_errors=True)


def main() -> int:
    parser = argparse.ArgumentParser(description="Run a private RabbitMQ until SIGTERM or SIGINT.")
    parser.add_argument("--port", type=int, default=0, help="AMQP port on 127.0.0.1; 0 takes a free one")
    parser.add_argument(
        "--set", metavar="KEY=VALUE", action="append", default=[], help="a line for rabbitmq.conf"
    )
    parser.add_argument(
        "--plugin", metavar="NAME", action="append", default=[], help="a plugin to be switched on"
    )
    arguments = parser.parse_args()
    settings = dict(line.split("=", 1) for line in arguments.set)

    def leave(signal_number: int, frame: FrameType | None) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, signal.SIG_IGN)  # a second one would cut the clean-up short
        raise KeyboardInterrupt

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, leave)
    try:
        with running_node(arguments.port, settings, arguments.plugin) as node:
            print(node.port, flush=True)
            while True:
                signal.pause()
    except KeyboardInterrupt:
        return 0
    except RabbitMQUnavailable as error:
        print(error, file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
