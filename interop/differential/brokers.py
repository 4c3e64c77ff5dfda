"""Both brokers, each as a private process on free ports, started from the same file of definitions.

This broker is the installed package, run in a folder of its own, so that a checkout in the working directory
is not what is tested by accident. RabbitMQ is whatever `rabbitmq-server` the machine has.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from interop.rabbitmq import running_node

from .player import Target

DEFINITIONS: Final = Path(__file__).with_name("definitions.json")
PLUGINS: Final = (
    "rabbitmq_consistent_hash_exchange",
    "rabbitmq_random_exchange",
    "rabbitmq_recent_history_exchange",
    "rabbitmq_sharding",
)
STOP_SECONDS: Final = 20.0
SALT: Final = b"salt"


class BrokerUnavailable(RuntimeError):
    """This broker did not start; the message has what it said."""


def definitions() -> str:
    """The definitions for both, with hashes where the file says "@password"."""
    content = json.loads(DEFINITIONS.read_text())
    for user in content["users"]:
        password = user["password_hash"].removeprefix("@").encode()
        digest = hashlib.sha256(SALT + password).digest()
        user["password_hash"] = base64.b64encode(SALT + digest).decode()
    return json.dumps(content)


@contextlib.contextmanager
def this_broker() -> Iterator[Target]:
    """This broker for the length of the block. Raises BrokerUnavailable."""
    with tempfile.TemporaryDirectory(prefix="differential-") as folder:
        home = Path(folder)
        (home / "definitions.json").write_text(definitions())
        (home / "broker.toml").write_text(f'[data]\nload_definitions = "{home / "definitions.json"}"\n')
        command = [sys.executable, "-m", "amqp_broker", "serve", "--port", "0"]
        command += ["--data-dir", str(home / "data"), "--config", str(home / "broker.toml")]
        environment = {key: value for key, value in os.environ.items() if not key.startswith("AMQP_")}
        with (home / "log").open("w+") as log:
            broker = subprocess.Popen(
                command, cwd=home, env=environment, stdout=subprocess.PIPE, stderr=log, text=True
            )
            try:
                assert broker.stdout is not None
                found = re.search(r"127\.0\.0\.1:(\d+)", broker.stdout.readline())
                if found is None:
                    log.seek(0)
                    raise BrokerUnavailable(f"this broker did not start:\n{log.read()[-2000:]}")
                yield Target("here", int(found[1]), patient=False)
            finally:
                broker.send_signal(signal.SIGTERM)
                try:
                    broker.wait(STOP_SECONDS)
                except subprocess.TimeoutExpired:
                    broker.kill()
                    broker.wait()
                if broker.stdout is not None:
                    broker.stdout.close()


@contextlib.contextmanager
def rabbitmq() -> Iterator[Target]:
    """A RabbitMQ for the length of the block. Raises interop.rabbitmq.RabbitMQUnavailable."""
    with tempfile.TemporaryDirectory(prefix="differential-") as folder:
        path = Path(folder) / "definitions.json"
        path.write_text(definitions())
        with running_node(settings={"load_definitions": str(path)}, plugins=PLUGINS) as node:
            yield Target("rabbitmq", node.port, patient=True)
