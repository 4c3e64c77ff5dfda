"""The options of the section `limits`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

from amqp_broker.config.address_limits import AddressLimits
from amqp_broker.config.option import MAX_SIZE, Option
from amqp_broker.config.values import Duration, Fraction, Integer, Size


class Limits(AddressLimits, frozen=True, kw_only=True):
    """How much of the machine clients may use."""

    connection_max: Annotated[
        int,
        Option(
            Integer(0, 10_000_000, "connections"),
            """The most client connections at a time; 0 sets no limit. Each takes a file descriptor, so the
            system's limit (ulimit -n) bounds them too.""",
        ),
    ] = 0
    consumer_max_per_channel: Annotated[
        int,
        Option(
            Integer(0, 10_000_000, "consumers"),
            """The most consumers on one channel; 0 sets no limit. A limit of a few thousand finds clients
            that subscribe in a loop and forget to cancel.""",
        ),
    ] = 0
    channel_max_per_node: Annotated[
        int,
        Option(
            Integer(0, 10_000_000, "channels"),
            """The most channels on all connections together; 0 sets no limit. The connection that asks for one
            more is closed with 530 NOT_ALLOWED.""",
        ),
    ] = 0
    queue_max: Annotated[
        int,
        Option(
            Integer(0, 10_000_000, "queues"),
            """The most queues in all virtual hosts together, exclusive ones among them; 0 sets no limit. A
            declaration of one more is refused with 406 PRECONDITION_FAILED. Limits of single virtual hosts and
            users come with definitions. It stands for `cluster_queue_limit` of RabbitMQ 4.""",
        ),
    ] = 0
    consumer_timeout: Annotated[
        float,
        Option(
            Duration(0, 30 * 86400),
            """How long a consumer may leave a delivery unacknowledged. After that its channel is closed
            with 406 PRECONDITION_FAILED and the message returns to its queue. Set it above the longest job
            your consumers do before they acknowledge; 0 lets them hold a message for ever. It is looked at
            once a minute.""",
        ),
    ] = 1800.0
    quorum_delivery_limit: Annotated[
        int,
        Option(
            Integer(-1, 2**31 - 1, "deliveries"),
            """How often a quorum queue delivers a message again before it becomes a dead letter, where neither
            an argument nor a policy says so. -1 sets no limit, as RabbitMQ 3 does; RabbitMQ 4 has 20. A
            message that becomes a dead letter is lost if its queue has no dead letter exchange.""",
        ),
    ] = -1
    memory_high_watermark_relative: Annotated[
        float,
        Option(
            Fraction(),
            """The share of the machine's memory (or of its container's limit) at which connections that
            publish are blocked until consumers have caught up. 0 switches the check off. Above 0.6 there
            may be too little left for the system to cache the disk.""",
        ),
    ] = 0.4
    memory_high_watermark_absolute: Annotated[
        int,
        Option(
            Size(0, MAX_SIZE),
            """The same as a fixed size, which takes precedence if it is not 0. Prefer it where the broker
            shares a machine with others.""",
        ),
    ] = 0
    disk_free_limit: Annotated[
        int,
        Option(
            Size(0, MAX_SIZE),
            """The free space on the data directory's file system below which connections that publish are
            blocked. The default only keeps the broker from failing outright; in production leave room for
            several minutes of your peak publishing rate. 0 switches the check off.""",
        ),
    ] = 50_000_000
    uncommitted_max: Annotated[
        int,
        Option(
            Size(65536, MAX_SIZE),
            """How much memory persistent messages that wait for the disk may take, estimated, before connections
            that publish pause. Acknowledgements out of the queue's order count a little, too, and then those who
            send them pause. It bounds what a slow disk costs. One message larger than this still passes,
            alone.""",
        ),
    ] = 64 * 2**20
    messages_in_memory: Annotated[
        int,
        Option(
            Size(0, MAX_SIZE),
            """How much memory the messages in queues may take, estimated; what does not fit leaves memory,
            persistent ones that are delivered and not acknowledged first, then those at the end of the longest
            queues, and is read back when it is wanted. 0 keeps all messages in memory.""",
        ),
    ] = 128 * 2**20
    output_high_watermark: Annotated[
        int,
        Option(
            Size(4096, 2**30),
            """How many bytes may wait to be sent to one connection before queues stop delivering to it.
            Larger values let one slow consumer hold more messages and memory; smaller ones cost
            throughput.""",
        ),
    ] = 2**20
    output_low_watermark: Annotated[
        int,
        Option(
            Size(0, 2**30),
            """Delivery to a connection that had reached the high watermark goes on once this few bytes
            wait. It may not be above the high watermark.""",
        ),
    ] = 256 * 1024


def limits_contradictions(limits: Limits) -> Iterator[tuple[str, str, str]]:
    """Values that are each allowed but not together: the option's path, its value, and why not."""
    low, high = limits.output_low_watermark, limits.output_high_watermark
    if low > high:
        yield (
            "limits.output_low_watermark",
            str(low),
            f"may not be above limits.output_high_watermark, which is {high}",
        )
