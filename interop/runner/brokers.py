"""The two brokers on private ports: this one as the installed command, and a RabbitMQ if one is installed.

Each can be killed and started again on its data, and made to raise an alarm. Both have a TLS listener with a
certificate of an authority made for the run. Nothing of the machine's own brokers is touched.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from interop import rabbitmq

START_SECONDS: Final = 60.0
ALARM_CHANGED: Final = "] alarms: "
READY: Final = re.compile(r"^amqp-broker (?P<version>\S+) \((?P<build>[^)]+)\) listening on ")


class BrokerUnavailable(RuntimeError):
    """It is not installed here, or did not start; the message says which."""


class Authority:
    """PEM files: `ca` signs the brokers' certificate, `other_ca` is one that signed nothing of theirs."""

    def __init__(self, folder: Path) -> None:
        import trustme

        authority = trustme.CA()
        issued = authority.issue_cert("localhost", "127.0.0.1", common_name="localhost")
        self.ca, self.other_ca = folder / "ca.pem", folder / "other-ca.pem"
        self.certificate, self.key = folder / "server.pem", folder / "server.key"
        authority.cert_pem.write_to_path(self.ca)
        trustme.CA().cert_pem.write_to_path(self.other_ca)
        self.certificate.write_bytes(b"".join(pem.bytes() for pem in issued.cert_chain_pems))
        issued.private_key_pem.write_to_path(self.key)


class Broker(ABC):
    """name: of its column. version: what was found out by starting it. port, tls_port: on 127.0.0.1."""

    name: str

    def __init__(self, folder: Path, authority: Authority) -> None:
        folder.mkdir()
        self._folder = folder
        self._authority = authority
        self._log = folder / "output"
        self._process: subprocess.Popen[bytes] | None = None
        self.port = rabbitmq.free_port()
        self.tls_port = rabbitmq.free_port()
        self.version = ""
        self.alarmed = False

    @abstractmethod
    def start(self) -> None:
        """Start it on its data and return when it takes connections. Raises BrokerUnavailable."""

    @abstractmethod
    def alarm(self, *, on: bool) -> None:
        """Raise an alarm that blocks publishers, or end it."""

    def _launch(self, command: list[str], environment: Mapping[str, str]) -> None:
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                command,
                cwd=self._folder,
                env=dict(environment),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        deadline = time.monotonic() + START_SECONDS
        while not rabbitmq.answers(self.port):
            if self._process.poll() is not None or time.monotonic() > deadline:
                self.kill()
                tail = self._log.read_text(errors="replace")[-2000:]
                raise BrokerUnavailable(f"{self.name} did not come up on port {self.port}:\n{tail}")
            time.sleep(0.02)

    def kill(self) -> None:
        """kill -9 of it and of its children."""
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None

    def close(self) -> None:
        self.kill()
        shutil.rmtree(self._folder, ignore_errors=True)


class ThisBroker(Broker):
    """The command `amqp-broker` beside this interpreter."""

    name = "amqp-broker"

    def __init__(self, folder: Path, authority: Authority) -> None:
        super().__init__(folder, authority)
        self._data = folder / "data"
        self._aside = folder / "data-aside"
        self._command = Path(sys.executable).with_name("amqp-broker")
        if not self._command.exists():
            raise BrokerUnavailable(f"there is no amqp-broker beside {sys.executable}: pip install it there")
        self._config = folder / "broker.toml"
        self._config.write_text(
            f'[listeners]\ntcp = ["127.0.0.1:{self.port}"]\ntls = ["127.0.0.1:{self.tls_port}"]\n'
            f'[tls]\ncertificate = "{authority.certificate}"\nkey = "{authority.key}"\n'
        )

    def start(self) -> None:
        command = [str(self._command), "serve", "--config", str(self._config), "--data-dir", str(self._data)]
        environment = {key: text for key, text in os.environ.items() if not key.startswith("AMQP_")}
        self._launch(command, environment)
        line = next(filter(None, map(READY.match, self._log.read_text().splitlines())), None)
        if line is None:
            raise BrokerUnavailable(f"{self.name} did not say that it listens")
        self.version = f"{line['version']} ({line['build']})"

    def alarm(self, *, on: bool) -> None:
        # A data directory that is gone is an alarm like one of memory or disk, and can be had at will.
        told = self._log.read_text().count(ALARM_CHANGED)
        if on:
            self._data.rename(self._aside)
        else:
            self._aside.rename(self._data)
        self.alarmed = on
        deadline = time.monotonic() + START_SECONDS
        while self._log.read_text().count(ALARM_CHANGED) == told:
            if time.monotonic() > deadline:
                raise RuntimeError("the broker did not notice")
            time.sleep(0.02)


class RabbitMQ(Broker):
    """The installed rabbitmq-server, in a home of its own."""

    name = "RabbitMQ"

    def __init__(self, folder: Path, authority: Authority) -> None:
        super().__init__(folder, authority)
        try:
            self._script, mapper = rabbitmq.server_script(), rabbitmq.port_mapper()
        except rabbitmq.RabbitMQUnavailable as error:
            raise BrokerUnavailable(str(error)) from None
        if mapper is None:
            raise BrokerUnavailable("epmd, Erlang's port mapper, was not found")
        settings = {
            "listeners.ssl.default": f"127.0.0.1:{self.tls_port}",
            "ssl_options.cacertfile": str(authority.ca),
            "ssl_options.certfile": str(authority.certificate),
            "ssl_options.keyfile": str(authority.key),
            "ssl_options.verify": "verify_none",
            "disk_free_limit.absolute": "1MB",
        }
        rabbitmq.prepare_home(folder, self.port, settings, ())
        epmd_port = rabbitmq.free_port()
        self._environment = rabbitmq.server_environment(folder, self.port, epmd_port)
        # A port mapper started by the server itself would be a daemon that outlives it.
        self._mapper = subprocess.Popen([mapper, "-port", str(epmd_port)], start_new_session=True)

    def start(self) -> None:
        self._launch([self._script], self._environment)
        self.version = _announced_version(self.port)

    def alarm(self, *, on: bool) -> None:
        node = rabbitmq.Node(self.port, self._environment)
        done = node.control("set_vm_memory_high_watermark", "0" if on else "0.4")
        if done.returncode != 0:
            raise RuntimeError(done.stdout + done.stderr)
        self.alarmed = on

    def close(self) -> None:
        self.kill()
        rabbitmq.stop_group(self._mapper)
        super().close()


def _announced_version(port: int) -> str:
    """The `version` among the server properties of connection.start."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(rabbitmq.PROTOCOL_HEADER)
        received = b""
        while not received.endswith(b"\xce"):
            received += connection.recv(65536)
    found = re.search(rb"\x07versionS\x00\x00\x00.([0-9.]+)", received)
    return found[1].decode() if found else "unknown"


KINDS: Final[dict[str, type[Broker]]] = {"amqp-broker": ThisBroker, "rabbitmq": RabbitMQ}
