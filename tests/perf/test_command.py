"""`amqp-broker perf` as a command: its flags, its exit status, its file."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from amqp_broker.cli.perf import perf
from tests.perf.fake_broker import FakeBroker, running_fake_broker


@pytest.fixture
def broker() -> Iterator[FakeBroker]:
    """A fake broker on a thread of its own, because the command brings its own event loop."""
    started: list[tuple[FakeBroker, asyncio.AbstractEventLoop, asyncio.Event]] = []
    ready = threading.Event()

    async def serve() -> None:
        async with running_fake_broker() as running:
            done = asyncio.Event()
            started.append((running, asyncio.get_running_loop(), done))
            ready.set()
            await done.wait()

    thread = threading.Thread(target=lambda: asyncio.run(serve()))
    thread.start()
    ready.wait(10)
    running, loop, done = started[0]
    yield running
    loop.call_soon_threadsafe(done.set)
    thread.join(10)


def run(*arguments: str) -> tuple[int, str, str]:
    """Exit status, stdout and stderr of the command."""
    app = typer.Typer(rich_markup_mode=None, pretty_exceptions_enable=False)
    app.command()(perf)
    result = CliRunner().invoke(app, list(arguments), prog_name="amqp-broker perf")
    return result.exit_code, result.stdout, result.stderr


def test_short_flags_are_those_of_perftest(broker: FakeBroker, tmp_path: Path) -> None:
    file = tmp_path / "result.json"
    flags = "-x 2 -y 2 -X 1 -Y 1 -u jobs -t topic -e logs -k a.b -s 100 -c 10 -A 5 -q 20 -f persistent"
    rest = (
        "-f mandatory -C 50 -qa x-max-length=9 -ad false -M 8192 -b 10 -i 0.5 -st 2 -ct 9 -r 100000 -d name"
    )
    status, out, err = run(
        "-h", f"amqp://127.0.0.1:{broker.port}", *flags.split(), *rest.split(), "--json", str(file)
    )
    assert (status, err) == (0, "")
    assert "id: name, sent: 100, returned: 0, confirmed: 100, nacked: 0" in out.splitlines()
    document = json.loads(file.read_text())
    assert (document["id"], document["sent"], document["received"], document["failure"]) == (
        "name",
        100,
        100,
        None,
    )
    assert set(document["consumer_latency_us"]) == {"min", "median", "75th", "95th", "99th", "99.9th", "max"}
    queue = dict(broker.named("Queue.Declare")[0])
    assert (queue["durable"], queue["auto_delete"], queue["arguments"]) == (True, False, {"x-max-length": 9})
    assert dict(broker.named("Exchange.Declare")[0])["exchange_type"] == "topic"
    tuned = dict(broker.named("Connection.TuneOk")[0])
    assert (tuned["frame_max"], tuned["heartbeat"]) == (8192, 0)
    publish = dict(broker.named("Basic.Publish")[0])
    assert (publish["exchange"], publish["routing_key"], publish["mandatory"]) == ("logs", "a.b", True)


def test_long_flags_are_those_of_perftest(broker: FakeBroker) -> None:
    flags = "--producers 1 --consumers 1 --queue-pattern p-%d --queue-pattern-from 3 --queue-pattern-to 3"
    rest = "--size 20 --pmessages 10 --autoack --exchange amq.direct --no-durable --flag persistent"
    rest += " --publishing-interval 0.001"
    status, out, err = run(
        "--uri", f"amqp://127.0.0.1:{broker.port}", *flags.split(), *rest.split(), "--id", "long"
    )
    assert (status, err) == (0, "")
    assert "id: long, received: 10" in out.splitlines()
    queue = dict(broker.named("Queue.Declare")[0])
    assert (queue["queue"], queue["durable"]) == ("p-3", False)
    assert broker.named("Exchange.Declare") == []


def test_a_number_of_queues_is_short_for_a_pattern(broker: FakeBroker) -> None:
    status, _, _ = run(
        "-h",
        f"amqp://127.0.0.1:{broker.port}",
        "-u",
        "100%",
        "--queues",
        "2",
        "-x",
        "2",
        "-y",
        "2",
        "-C",
        "1",
    )
    assert status == 0
    assert [dict(queue)["queue"] for queue in broker.named("Queue.Declare")] == ["100%-1", "100%-2"]


def test_a_wrong_flag_is_refused_in_one_line() -> None:
    assert run("-A", "10", "-q", "5") == (
        2,
        "",
        "perf: --multi-ack-every 10 exceeds the prefetch of 5: delivery would stop\n",
    )
    assert run("-f", "immediate")[0] == 2


def test_a_broker_that_is_not_there_is_status_1(broker: FakeBroker) -> None:
    status, out, err = run("-h", "amqp://127.0.0.1:1", "-d", "t")
    assert (status, out) == (1, "")
    assert err.startswith("t: cannot connect to 127.0.0.1:1: ")
    assert err.count("\n") == 1


def test_a_file_that_cannot_be_written_is_status_1(broker: FakeBroker, tmp_path: Path) -> None:
    missing = tmp_path / "no" / "such" / "file"
    status, _, err = run(
        "-h", f"amqp://127.0.0.1:{broker.port}", "-u", "q", "-C", "1", "--json", str(missing)
    )
    assert status == 1
    assert str(missing) in err
