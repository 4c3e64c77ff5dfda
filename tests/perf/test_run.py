"""Whole runs against a fake broker: what it receives, what is reported, and how each failure is said."""

from __future__ import annotations

import asyncio
import re
import struct
import time
from collections.abc import Callable, Coroutine
from dataclasses import replace
from typing import Any, TypeVar

import pytest
from pamqp import base, commands

from amqp_broker.perf.connection import open_connection
from amqp_broker.perf.latency import Histogram
from amqp_broker.perf.run import Run, execute
from amqp_broker.perf.settings import Settings
from tests.perf.fake_broker import FakeBroker, Session, running_fake_broker

# What a run is waited for whose messages all come; and those that do not are waited for.
PATIENCE = 30.0
NOT_FOR_LONG = 0.2

Prepare = Callable[[FakeBroker], None]
Result = TypeVar("Result")


class Outcome:
    """A finished run, and all it said."""

    def __init__(self, run: Run, broker: FakeBroker, lines: list[str], complaints: list[str]) -> None:
        self.run, self.broker = run, broker
        self.lines, self.complaints = lines, complaints
        self.counts = run.report.counts


def perform(prepare: Prepare | None = None, **flags: Any) -> Outcome:
    """Run against a fresh fake broker, by default one producer and one consumer of queue `q`."""

    async def main() -> Outcome:
        async with running_fake_broker() as broker:
            if prepare is not None:
                prepare(broker)
            lines: list[str] = []
            complaints: list[str] = []
            settings = settings_for(broker, **flags)
            run = await asyncio.wait_for(execute(settings, lines.append, complaints.append), 40)
            return Outcome(run, broker, lines, complaints)

    return in_loop(main())


def found_in_time(holds: Callable[[], bool]) -> bool:
    """Whether it holds in one of a few attempts: where the machine stands still, what was late is sent at once."""
    return any(holds() for _ in range(3))


def in_loop(main: Coroutine[Any, Any, Result]) -> Result:
    return asyncio.run(main)


def settings_for(broker: FakeBroker, **flags: Any) -> Settings:
    defaults: dict[str, Any] = {"name": "t", "queue_names": ("q",), "drain_seconds": PATIENCE}
    return Settings(uri=f"amqp://127.0.0.1:{broker.port}", **(defaults | flags))


def on(name: str, answer: Callable[[Session, int, base.Frame], bool]) -> Prepare:
    """Answer methods of this name by hand."""

    def prepare(broker: FakeBroker) -> None:
        def intercept(session: Session, channel: int, method: base.Frame) -> bool:
            return method.name == name and answer(session, channel, method)

        broker.intercept = intercept

    return prepare


# what the broker receives


def test_everything_published_is_received_and_reported() -> None:
    outcome = perform(producer_messages=500, autoack=True, size=50)
    assert outcome.run.failure == ""
    assert (outcome.counts.sent, outcome.counts.received) == (500, 500)
    assert len(outcome.broker.bodies) == 500
    assert all(body.startswith(b"perf") and len(body) == 50 for body in outcome.broker.bodies)
    assert outcome.broker.acks == []
    assert outcome.lines[-3] == "id: t, received: 500"
    assert not outcome.complaints


def test_each_message_is_acknowledged_by_itself_unless_asked_otherwise() -> None:
    outcome = perform(producer_messages=20)
    assert outcome.broker.acks == [(tag, False) for tag in range(1, 21)]


def test_groups_are_acknowledged_at_once_and_the_rest_at_the_end() -> None:
    outcome = perform(producer_messages=25, multi_ack_every=10, qos=50)
    assert outcome.broker.acks == [(10, True), (20, True), (25, True)]
    assert dict(outcome.broker.named("Basic.Qos")[0])["prefetch_count"] == 50


def test_the_topology_is_declared_and_bound_before_anything_is_published() -> None:
    outcome = perform(
        producer_messages=1, flags=frozenset({"persistent"}), durable=True, queue_arguments={"x": 1}
    )
    names = [method.name for method in outcome.broker.methods]
    assert names.index("Exchange.Declare") < names.index("Queue.Declare") < names.index("Queue.Bind")
    assert names.index("Queue.Bind") < names.index("Basic.Consume") < names.index("Basic.Publish")
    queue = dict(outcome.broker.named("Queue.Declare")[0])
    assert (queue["queue"], queue["durable"], queue["auto_delete"], queue["arguments"]) == (
        "q",
        True,
        True,
        {"x": 1},
    )
    assert dict(outcome.broker.named("Queue.Bind")[0])["routing_key"] == "q"
    assert outcome.broker.deliver_modes == {2}


def test_the_default_exchange_is_neither_declared_nor_bound() -> None:
    outcome = perform(producer_messages=3, exchange="amq.default")
    assert outcome.broker.named("Exchange.Declare") == outcome.broker.named("Queue.Bind") == []
    assert {dict(publish)["exchange"] for publish in outcome.broker.named("Basic.Publish")} == {""}


def test_predeclared_objects_are_only_declared_where_they_are_missing() -> None:
    def answer(session: Session, channel: int, method: base.Frame) -> bool:
        if dict(method)["passive"]:
            session.send(
                channel, commands.Channel.Close(404, "NOT_FOUND - no queue 'q' in vhost '/'", 50, 10)
            )
        return bool(dict(method)["passive"])

    outcome = perform(on("Queue.Declare", answer), producer_messages=1, predeclared=True)
    assert outcome.run.failure == ""
    assert [dict(declare)["passive"] for declare in outcome.broker.named("Exchange.Declare")] == [True]
    assert [dict(declare)["passive"] for declare in outcome.broker.named("Queue.Declare")] == [True, False]


def test_consumers_without_a_named_queue_have_one_each() -> None:
    outcome = perform(
        producer_messages=2, consumers=2, queue_names=(), producers=2, drain_seconds=NOT_FOR_LONG
    )
    assert [dict(declare)["queue"] for declare in outcome.broker.named("Queue.Declare")] == ["", ""]
    assert {dict(consume)["queue"] for consume in outcome.broker.named("Basic.Consume")} == {"amq.gen-1"}


def test_many_queues_are_shared_out() -> None:
    queues = ("q-1", "q-2", "q-3")
    outcome = perform(producer_messages=5, producers=3, consumers=3, queue_names=queues, queue_per_key=True)
    assert {dict(publish)["routing_key"] for publish in outcome.broker.named("Basic.Publish")} == set(queues)
    assert {dict(consume)["queue"] for consume in outcome.broker.named("Basic.Consume")} == set(queues)
    assert outcome.counts.received == 15


def test_channels_multiply_producers_and_consumers() -> None:
    outcome = perform(producer_messages=5, producer_channels=3, consumer_channels=2, confirm=2)
    assert len(outcome.broker.named("Basic.Consume")) == 2
    assert len(outcome.broker.named("Confirm.Select")) == 3
    assert (outcome.counts.sent, outcome.counts.confirmed, outcome.counts.received) == (15, 15, 15)


@pytest.mark.parametrize("size", [0, 5, 12, 4088, 4089, 20_000])
def test_bodies_of_any_size_arrive_in_small_frames(size: int) -> None:
    outcome = perform(lambda broker: setattr(broker, "frame_max", 4096), producer_messages=7, size=size)
    assert [len(body) for body in outcome.broker.bodies] == [size] * 7
    assert outcome.counts.received == 7


def test_stamps_say_when_a_message_was_sent_and_a_rate_spreads_them() -> None:
    def spread() -> bool:
        before = time.monotonic_ns()
        outcome = perform(producer_messages=30, rate=200)
        sent = [struct.unpack_from(">Q", body, 4)[0] for body in outcome.broker.bodies]
        assert before < sent[0]
        assert sent == sorted(sent)
        assert outcome.counts.sent == 30
        return sent[-1] - sent[0] >= 28 / 200 * 1e9

    assert found_in_time(spread)


def test_slow_producers_take_turns_instead_of_firing_together() -> None:
    def take_turns() -> bool:
        outcome = perform(producer_messages=1, producers=4, rate=10)
        sent = sorted(struct.unpack_from(">Q", body, 4)[0] for body in outcome.broker.bodies)
        return sent[3] - sent[0] >= 3 / 4 / 10 * 1e9

    assert found_in_time(take_turns)


# confirms and returns


def test_confirms_are_counted_and_timed() -> None:
    outcome = perform(producer_messages=100, confirm=10)
    assert (outcome.counts.confirmed, outcome.counts.nacked) == (100, 0)
    document = outcome.run.report.document(1.0, "")
    assert isinstance(document["confirm_latency_us"], dict)
    assert document["confirm_latency_us"]["min"] > 0
    assert any("confirmed: 100, nacked: 0" in line for line in outcome.lines)


def test_no_more_are_unconfirmed_than_the_window_holds() -> None:
    most = 0
    unconfirmed: list[tuple[Session, int]] = []

    def answer(session: Session, channel: int, method: base.Frame) -> bool:
        nonlocal most
        unconfirmed.append((session, channel))
        most = max(most, len(unconfirmed))
        if len(unconfirmed) == 6:
            # room for all again; the tags so far are those of all publishes
            published = len(session.broker.named("Basic.Publish"))
            session.send(channel, commands.Basic.Ack(published, True))
            unconfirmed.clear()
        return False

    def prepare(broker: FakeBroker) -> None:
        broker.confirming = False
        on("Basic.Publish", answer)(broker)

    outcome = perform(prepare, producer_messages=60, confirm=6)
    assert most == 6
    assert outcome.counts.confirmed == 60


def test_nacks_and_returns_are_counted_and_not_waited_for() -> None:
    def prepare(broker: FakeBroker) -> None:
        broker.nacking = broker.returning = True

    outcome = perform(
        prepare,
        producer_messages=10,
        confirm=5,
        flags=frozenset({"mandatory"}),
        drain_seconds=NOT_FOR_LONG,
    )
    assert (outcome.counts.nacked, outcome.counts.returned, outcome.counts.received) == (10, 10, 0)
    assert outcome.run.failure == ""


def test_a_confirm_that_never_comes_is_a_failure() -> None:
    outcome = perform(
        lambda broker: setattr(broker, "confirming", False),
        producer_messages=1,
        confirm=1,
        confirm_timeout=0.1,
    )
    assert outcome.run.failure == "a message has waited 0.1 s for its confirm"


# how a run ends


def test_a_run_ends_when_its_time_is_up() -> None:
    def something_was_sent() -> bool:
        outcome = perform(seconds=0.2, rate=500, interval=0.1, drain_seconds=NOT_FOR_LONG)
        assert outcome.run.failure == ""
        assert outcome.run.seconds >= 0.2
        line = r"id: t, time: \d+\.\d{3} s, sent: \d+ msg/s, received: \d+ msg/s, min/"
        return outcome.counts.sent > 0 and re.match(line, outcome.lines[0]) is not None

    assert found_in_time(something_was_sent)


def test_a_run_ends_when_every_consumer_has_its_messages() -> None:
    outcome = perform(consumer_messages=50, rate=2000)
    assert outcome.counts.received >= 50
    assert outcome.run.failure == ""


def test_a_run_ends_as_soon_as_all_has_arrived() -> None:
    outcome = perform(producer_messages=10, drain_seconds=15)
    assert outcome.counts.received == 10
    assert outcome.run.seconds < 10


def test_a_run_ends_when_nothing_more_arrives() -> None:
    outcome = perform(
        lambda broker: setattr(broker, "deliver", lambda *message: None),
        producer_messages=10,
        drain_seconds=NOT_FOR_LONG,
    )
    assert (outcome.counts.sent, outcome.counts.received) == (10, 0)
    assert outcome.run.failure == ""


def test_an_interrupt_ends_a_run_with_a_summary() -> None:
    async def main() -> tuple[Run, FakeBroker]:
        async with running_fake_broker() as broker:
            run = Run(settings_for(broker, rate=100), lambda line: None, lambda line: None)

            def answer(session: Session, channel: int, method: base.Frame) -> bool:
                run.interrupt()
                return False

            on("Basic.Ack", answer)(broker)
            await asyncio.wait_for(run.execute(), 40)
            return run, broker

    run, broker = in_loop(main())
    assert run.failure == ""
    assert run.report.counts.received >= 1
    assert len(broker.named("Connection.Close")) == 3
    assert any("receiving rate avg" in line for line in run.report.summary())


def test_two_processes_share_a_run() -> None:
    outcome = perform(producer_messages=200, producers=2, consumers=2, processes=2, confirm=50)
    assert outcome.run.failure == ""
    assert (outcome.counts.sent, outcome.counts.confirmed, outcome.counts.received) == (400, 400, 400)
    document = outcome.run.report.document(1.0, "")
    assert isinstance(document["consumer_latency_us"], dict)
    assert document["consumer_latency_us"]["median"] > 0


def test_a_failure_in_another_process_is_said_here() -> None:
    outcome = perform(on("Basic.Publish", closing(404, "NOT_FOUND - gone")), producer_messages=5, processes=2)
    assert outcome.run.failure == "the broker closed channel 1: 404 NOT_FOUND - gone"


# failures


def closing(code: int, text: str) -> Callable[[Session, int, base.Frame], bool]:
    def answer(session: Session, channel: int, method: base.Frame) -> bool:
        session.send(channel, commands.Channel.Close(code, text, 60, 40))
        session.broker.intercept = lambda session, channel, method: method.name == "Basic.Publish"
        return True

    return answer


def test_a_channel_closed_by_the_broker_ends_the_run_with_code_and_text() -> None:
    text = "NOT_FOUND - no exchange 'direct' in vhost '/'"
    outcome = perform(on("Basic.Publish", closing(404, text)), size=0, producer_messages=1)
    assert outcome.run.failure == f"the broker closed channel 1: 404 {text}"
    assert outcome.complaints == [f"t: the broker closed channel 1: 404 {text}"]
    assert len(outcome.broker.named("Channel.CloseOk")) == 1


def test_a_connection_closed_by_the_broker_ends_the_run_with_code_and_text() -> None:
    def answer(session: Session, channel: int, method: base.Frame) -> bool:
        session.send(
            0, commands.Connection.Close(320, "CONNECTION_FORCED - broker forced connection closure", 0, 0)
        )
        return True

    outcome = perform(on("Basic.Ack", answer), producer_messages=1, seconds=10)
    said = "the broker closed the connection: 320 CONNECTION_FORCED - broker forced connection closure"
    assert outcome.run.failure == said
    assert len(outcome.broker.named("Connection.CloseOk")) >= 1


def test_a_refused_login_is_said_with_the_address() -> None:
    def answer(session: Session, channel: int, method: base.Frame) -> bool:
        session.send(0, commands.Connection.Close(403, "ACCESS_REFUSED - Login was refused", 0, 0))
        return True

    outcome = perform(on("Connection.StartOk", answer))
    assert outcome.run.failure.startswith("127.0.0.1:")
    assert outcome.run.failure.endswith(
        "the broker closed the connection: 403 ACCESS_REFUSED - Login was refused"
    )
    assert outcome.lines == []


def test_a_dropped_connection_is_a_failure() -> None:
    def answer(session: Session, channel: int, method: base.Frame) -> bool:
        session.transport.abort()
        return True

    outcome = perform(on("Connection.Open", answer))
    assert "connection" in outcome.run.failure
    outcome = perform(on("Basic.Ack", answer), producer_messages=1)
    assert "connection" in outcome.run.failure


def test_bytes_that_are_no_frame_are_a_failure() -> None:
    def answer(session: Session, channel: int, method: base.Frame) -> bool:
        session.transport.write(b"\x01\x00\x00\x00\x00\x00\x04\x00\x0a\x00\x33\x00")
        return True

    outcome = perform(on("Basic.Ack", answer), producer_messages=1)
    assert outcome.run.failure == "the broker broke the protocol: frame end octet is 0x00"


def test_a_reply_nobody_asked_for_is_a_failure() -> None:
    def answer(session: Session, channel: int, method: base.Frame) -> bool:
        session.send(channel, commands.Tx.CommitOk())
        return True

    outcome = perform(on("Basic.Ack", answer), producer_messages=1)
    assert outcome.run.failure == "the broker broke the protocol: unexpected method 90.21 on channel 1"


def test_a_cancelled_consumer_is_a_failure() -> None:
    def answer(session: Session, channel: int, method: base.Frame) -> bool:
        session.send(channel, commands.Basic.Cancel("perf-0", True))
        return True

    outcome = perform(on("Basic.Ack", answer), producer_messages=1)
    assert outcome.run.failure == "the broker cancelled consumer 'perf-0'; was its queue deleted?"


def test_a_broker_that_is_not_there_is_a_failure() -> None:
    async def main() -> Run:
        async with running_fake_broker() as broker:
            settings = settings_for(broker)
        return await execute(settings, lambda line: None, lambda line: None)

    assert "cannot connect to 127.0.0.1:" in in_loop(main()).failure


def test_more_channels_than_the_broker_allows_are_a_failure() -> None:
    def answer(session: Session, channel: int, method: base.Frame) -> bool:
        session.send(0, commands.Connection.Tune(2, 131072, 0))
        return True

    outcome = perform(on("Connection.StartOk", answer), producer_channels=3, consumers=0)
    assert outcome.run.failure == "the broker allows 2 channels on a connection"


# signs of life and of trouble


def test_a_blocked_connection_is_said_and_waited_for() -> None:
    def answer(session: Session, channel: int, method: base.Frame) -> bool:
        if len(session.broker.named("Basic.Publish")) == 1:
            session.send(0, commands.Connection.Blocked("low on memory"))
            session.send(0, commands.Connection.Unblocked())
        return False

    outcome = perform(on("Basic.Publish", answer), producer_messages=2)
    assert outcome.complaints == [
        "t: the broker blocks publishers: low on memory",
        "t: the broker no longer blocks publishers",
    ]
    assert outcome.counts.received == 2


def test_channel_flow_is_answered_and_obeyed() -> None:
    sent_when: list[int] = []

    def resume(session: Session, channel: int) -> None:
        sent_when.append(len(session.broker.named("Basic.Publish")))
        session.send(channel, commands.Channel.Flow(True))

    def intercept(session: Session, channel: int, method: base.Frame) -> bool:
        sent = len(session.broker.named("Basic.Publish"))
        if method.name == "Basic.Publish" and sent == 1:
            session.send(channel, commands.Channel.Flow(False))
        if method.name == "Channel.FlowOk" and not sent_when:
            sent_when.append(sent)
            asyncio.get_running_loop().call_later(0.1, resume, session, channel)
        return False

    outcome = perform(
        lambda broker: setattr(broker, "intercept", intercept), producer_messages=100, rate=1000
    )
    assert [dict(answer)["active"] for answer in outcome.broker.named("Channel.FlowOk")] == [False, True]
    assert sent_when[0] == sent_when[1] < 100
    assert outcome.counts.received == 100


def test_a_silent_broker_is_noticed_by_its_missing_heartbeats() -> None:
    async def main() -> tuple[str, int]:
        async with running_fake_broker() as broker:
            broker.heartbeat = 1
            settings = replace(settings_for(broker), heartbeat=5)
            moments = [0]
            failed = asyncio.get_running_loop().create_future()
            connection = await open_connection(settings, Histogram(), lambda: moments[0])
            connection.on_failure = failed.set_result
            agreed = connection.heartbeat
            moments[0] = 2_000_000_001
            text = await asyncio.wait_for(failed, 30)
            await connection.close(1)
            return text, agreed

    text, agreed = in_loop(main())
    assert agreed == 1
    assert text == "the broker was silent for two heartbeat intervals of 1 s"
