"""Python clients in the scenarios that all clients share, by the command that anybody would use; nothing is fetched."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).parents[2]
COMMAND: Final = ROOT / "interop" / "run"
CLIENTS: Final = ("pika", "aio-pika", "aiormq", "kombu")


class Played:
    """outcomes: by scenario. said: what the command printed."""

    def __init__(self, rows: list[dict[str, str]], said: str) -> None:
        self.outcomes = {row["scenario"]: row["outcome"] for row in rows}
        self.said = said


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Played]:
    """What each client did, the clients side by side with a broker of their own."""
    folder = tmp_path_factory.mktemp("clients")
    environment = {key: text for key, text in os.environ.items() if not key.startswith("AMQP_")}
    processes = {}
    for client in CLIENTS:
        # A heartbeat of a second is lost on a machine that has no time for it; tests/server knows how they go.
        chosen = ["--here", "--broker", "amqp-broker", "--without", "heartbeats"]
        processes[client] = subprocess.Popen(
            [sys.executable, str(COMMAND), client, *chosen, "--results", str(folder / client)],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
    try:
        said = {client: process.communicate()[0] for client, process in processes.items()}
    finally:
        for process in processes.values():
            if process.poll() is None:
                process.terminate()  # and it ends its broker
                process.communicate()
    return {client: Played(json.loads((folder / client).read_text()), said[client]) for client in CLIENTS}


@pytest.mark.timeout(150)  # the fixture's, for both
@pytest.mark.parametrize("client", CLIENTS)
def test_a_client_does_what_is_asked_of_all(client: str, played: dict[str, Played]) -> None:
    others = {name: outcome for name, outcome in played[client].outcomes.items() if outcome != "ok"}
    assert (len(played[client].outcomes), others) == (21, {}), played[client].said
