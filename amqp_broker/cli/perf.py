"""`amqp-broker perf`: the flags of the load generator, named as PerfTest names them, and nothing else.

The generator itself is in `amqp_broker.perf`, which is imported only when the command runs.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated

import typer

DEFAULT_URI = "amqp://guest:guest@localhost:5672"


def perf(  # noqa: PLR0913, PLR0917 - a command has as many parameters as flags
    uri: Annotated[
        str,
        typer.Option("--uri", "-h", help="Broker to load: amqp[s]://user:password@host:port/vhost."),
    ] = DEFAULT_URI,
    producers: Annotated[int, typer.Option("--producers", "-x", help="Connections that publish.")] = 1,
    consumers: Annotated[int, typer.Option("--consumers", "-y", help="Connections that consume.")] = 1,
    producer_channels: Annotated[
        int, typer.Option("--producer-channel-count", "-X", help="Channels of each producer connection.")
    ] = 1,
    consumer_channels: Annotated[
        int, typer.Option("--consumer-channel-count", "-Y", help="Channels of each consumer connection.")
    ] = 1,
    size: Annotated[
        int, typer.Option("--size", "-s", help="Body size in bytes; below 12 no latency is measured.")
    ] = 12,
    rate: Annotated[
        float,
        typer.Option("--rate", "-r", help="Messages per second and producer channel; 0: no limit."),
    ] = 0,
    publishing_interval: Annotated[
        float,
        typer.Option("--publishing-interval", "-P", help="Seconds between messages, instead of a rate."),
    ] = 0,
    confirm: Annotated[
        int, typer.Option("--confirm", "-c", help="Publisher confirms, with at most so many unconfirmed.")
    ] = 0,
    confirm_timeout: Annotated[
        float,
        typer.Option("--confirm-timeout", "-ct", help="Seconds a confirm may take; 0: any."),
    ] = 30,
    flag: Annotated[
        list[str] | None,
        typer.Option("--flag", "-f", help="Message flag: persistent or mandatory; repeatable."),
    ] = None,
    autoack: Annotated[
        bool, typer.Option("--autoack", "-a", help="Consume without acknowledgements.")
    ] = False,
    multi_ack_every: Annotated[
        int,
        typer.Option("--multi-ack-every", "-A", help="One ack for so many messages; default: one for each."),
    ] = 0,
    qos: Annotated[int, typer.Option("--qos", "-q", help="Prefetch of each consumer; 0: no limit.")] = 0,
    global_qos: Annotated[
        int, typer.Option("--global-qos", "-Q", help="Prefetch of each channel as a whole; 0: no limit.")
    ] = 0,
    queue: Annotated[
        str, typer.Option("--queue", "-u", help="Queue name, or several separated by commas.")
    ] = "",
    queue_pattern: Annotated[
        str,
        typer.Option("--queue-pattern", "-qp", help="Names of many queues, such as perf-%d."),
    ] = "",
    queue_pattern_from: Annotated[
        int, typer.Option("--queue-pattern-from", "-qpf", help="First number for --queue-pattern.")
    ] = 1,
    queue_pattern_to: Annotated[
        int, typer.Option("--queue-pattern-to", "-qpt", help="Last number for --queue-pattern.")
    ] = 0,
    queues: Annotated[
        int, typer.Option("--queues", help="So many queues: short for --queue-pattern NAME-%d from 1.")
    ] = 0,
    queue_args: Annotated[
        str, typer.Option("--queue-args", "-qa", help="Queue arguments: key=value,key=value.")
    ] = "",
    durable: Annotated[
        bool | None,
        typer.Option("--durable/--no-durable", help="Durable queues; default: if messages are persistent."),
    ] = None,
    auto_delete: Annotated[
        str, typer.Option("--auto-delete", "-ad", help="Auto-delete queues: true or false.")
    ] = "true",
    exchange: Annotated[
        str | None,
        typer.Option(
            "--exchange",
            "-e",
            help="Exchange; default: named as its type; empty: the default one.",
        ),
    ] = None,
    exchange_type: Annotated[str, typer.Option("--type", "-t", help="Exchange type.")] = "direct",
    routing_key: Annotated[
        str,
        typer.Option("--routing-key", "-k", help="Routing key; default: the only queue's name, or random."),
    ] = "",
    predeclared: Annotated[
        bool,
        typer.Option("--predeclared", "-p", help="Use exchange and queues as they are, where they exist."),
    ] = False,
    skip_binding: Annotated[
        bool, typer.Option("--skip-binding-queues", "-sb", help="Bind no queue to the exchange.")
    ] = False,
    producer_messages: Annotated[
        int, typer.Option("--pmessages", "-C", help="Messages per producer channel; 0: no limit.")
    ] = 0,
    consumer_messages: Annotated[
        int, typer.Option("--cmessages", "-D", help="Messages per consumer channel; 0: no limit.")
    ] = 0,
    seconds: Annotated[
        float, typer.Option("--time", "-z", help="Seconds to run; 0: until the counts are reached or Ctrl-C.")
    ] = 0,
    interval: Annotated[float, typer.Option("--interval", "-i", help="Seconds between progress lines.")] = 1,
    shutdown_timeout: Annotated[
        float,
        typer.Option("--shutdown-timeout", "-st", help="Seconds to wait at the end for what is under way."),
    ] = 5,
    frame_max: Annotated[
        int, typer.Option("--framemax", "-M", help="Largest frame to agree on, in bytes, from 4096.")
    ] = 131072,
    heartbeat: Annotated[int, typer.Option("--heartbeat", "-b", help="Seconds; 0: none.")] = 60,
    use_millis: Annotated[
        bool, typer.Option("--use-millis", "-ms", help="Wall-clock stamps: for producers on another machine.")
    ] = False,
    processes: Annotated[
        int, typer.Option("--processes", help="Processes to spread the connections over.")
    ] = 1,
    name: Annotated[str, typer.Option("--id", "-d", help="Name of the run, shown on each line.")] = "",
    json_file: Annotated[
        Path | None, typer.Option("--json", metavar="FILE", help="Write all figures to this file.")
    ] = None,
) -> None:
    """Load a broker with producers and consumers and report rates and latencies, as PerfTest does.

    Works against any AMQP 0-9-1 broker. Exit status 1: the broker ended or refused something.
    """
    from amqp_broker.perf.run import run
    from amqp_broker.perf.settings import (
        Settings,
        SettingsError,
        parse_arguments,
        parse_boolean,
        parse_flags,
        parse_names,
        sequence,
    )

    try:
        flags = parse_flags(flag or [])
        names = parse_names(queue)
        if queues:
            names = sequence((queue or "perf").replace("%", "%%") + "-%d", 1, queues)
        elif queue_pattern:
            names = sequence(queue_pattern, queue_pattern_from, queue_pattern_to)
        settings = Settings(
            uri=uri,
            name=name or time.strftime("test-%H%M%S"),
            producers=producers,
            consumers=consumers,
            producer_channels=producer_channels,
            consumer_channels=consumer_channels,
            size=size,
            rate=1 / publishing_interval if publishing_interval > 0 else max(0.0, rate),
            confirm=max(0, confirm),
            confirm_timeout=confirm_timeout,
            autoack=autoack,
            multi_ack_every=multi_ack_every,
            qos=qos,
            global_qos=global_qos,
            flags=flags,
            durable="persistent" in flags if durable is None else durable,
            auto_delete=parse_boolean(auto_delete),
            queue_names=names,
            queue_per_key=bool(queues or queue_pattern),
            queue_arguments=parse_arguments(queue_args),
            exchange=exchange_type if exchange is None else exchange,
            exchange_type=exchange_type,
            routing_key=routing_key,
            predeclared=predeclared,
            skip_binding=skip_binding,
            producer_messages=producer_messages,
            consumer_messages=consumer_messages,
            seconds=seconds,
            interval=interval,
            drain_seconds=max(0.0, shutdown_timeout),
            frame_max=frame_max,
            heartbeat=heartbeat,
            use_millis=use_millis,
            processes=processes,
        )
    except SettingsError as wrong:
        typer.echo(f"perf: {wrong}", err=True)
        raise typer.Exit(2) from None
    try:
        raise typer.Exit(run(settings, json_file))
    except OSError as unwritable:
        typer.echo(f"perf: {unwritable}", err=True)
        raise typer.Exit(1) from None
