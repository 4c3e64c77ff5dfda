"""What every client is asked to show: the names of the scenarios, and what has to be seen for one to be `ok`.

The programs in `interop/clients` know the names and do the work; nothing here talks to a broker. A program answers
each name with `ok`, `failed` or `cannot`, the last with the reason why its client has no way to express it.
"""

from __future__ import annotations

from typing import Final

COMMON: Final[dict[str, str]] = {
    "tutorial-1-hello": "a message sent to a queue by its name is consumed",
    "tutorial-2-work-queues": (
        "two workers with a prefetch of one share two tasks; the task of the one that goes away without an "
        "acknowledgement is redelivered to the other, and marked so"
    ),
    "tutorial-3-publish-subscribe": "a fanout exchange copies to two exclusive queues that the broker named",
    "tutorial-4-routing": "a direct exchange sends each severity to the queues that asked for it, in order",
    "tutorial-5-topics": "`kern.*`, `*.critical` and `#` each get what they match",
    "tutorial-6-rpc": "answers to calls come back by reply-to and correlation id, and by direct reply-to",
    "tutorial-7-confirms": "messages confirmed one by one, in batches and asynchronously are all in the queue",
    "confirm-window": "1,000 persistent messages with at most 100 unconfirmed: all acked, none nacked",
    "mandatory-return": (
        "what nobody takes comes back with 312 NO_ROUTE, its body and properties, before its confirm; "
        "what is routed does not"
    ),
    "prefetch-multiple-ack": (
        "with a prefetch of three, seven of ten messages stay in the queue; one acknowledgement for "
        "several brings the next three; at the end none is left"
    ),
    "nack-dead-letter": (
        "what is given back to be requeued comes again, redelivered; what is refused arrives at the "
        "dead-letter exchange with x-death: reason, queue, count"
    ),
    "priorities": "messages of priority 1, 5, 9 and 3 are consumed in the order 9, 5, 3, 1",
    "ttl": "messages expire by their own expiration and by the queue's, and are dead-lettered as `expired`",
    "large-and-empty": "bodies of 8 MiB and of no octets arrive as they were sent",
    "table-values": "every type of table value that the client can send comes back equal",
    "headers-to-the-byte": (
        "all properties and a table of every type are delivered in the octets in which they were sent, "
        "as seen by a relay between client and broker"
    ),
    "consumer-cancel": "the consumer of a queue that is deleted is told",
    "connection-blocked": "an alarm blocks the publishing connection, which is told, and told again when it is over",
    "recovery": (
        "the broker is killed (-9) and started: the client connects again, its consumer gets the persistent "
        "message from before and one from after through the same exchange, queue and binding"
    ),
    "heartbeats": (
        "an idle connection lives on heartbeats; when the other side falls silent, the client says that the "
        "connection is lost, and the broker drops the silent client"
    ),
    "tls": "with the right authority messages pass over TLS; with another the client refuses the broker",
    "errors": (
        "the client's exceptions carry 404 for a missing queue, 406 for another redeclaration and an unknown "
        "delivery tag, 405 for somebody's exclusive queue, 403 for a wrong password, 530 for a missing vhost"
    ),
}

CELERY: Final[dict[str, str]] = {
    "task-result": "a task's result comes back over the RPC result backend",
    "retry": "a task that fails twice and retries succeeds the third time",
    "eta": "a task with a countdown does not run before its time",
    "chain-and-group": "a chain passes results on; a group returns all of them",
    "chord": "a chord's body gets the results of its header",
    "priorities": "waiting tasks of a queue with priorities run highest first",
    "routing": "tasks go to the queues that their routes name",
    "late-ack-killed-worker": "a task whose worker process is killed runs again on the next worker",
    "error-result": "a task's exception is raised where its result is asked for",
    "revoke": "a task that is revoked while it waits never runs (a broadcast over a fanout exchange)",
    "inspect": "the worker answers ping and inspect over its pidbox queue",
    "broker-restart": "worker and client go on after the broker is killed and started",
}

FASTSTREAM: Final[dict[str, str]] = {
    "publish-subscribe": "a subscriber gets a typed message",
    "reply": "what a subscriber returns is published to the next queue",
    "rpc": "a request is answered over direct reply-to",
    "topic-exchange": "subscribers of a topic exchange get what they match",
    "headers-exchange": "subscribers of a headers exchange get what they match",
    "nack-dead-letter": "a message that its handler rejects goes to the dead-letter queue",
    "quorum-queue": "a subscriber of a quorum queue gets a message that its handler gave back again",
    "broker-restart": "subscriber and publisher go on after the broker is killed and started",
}

DRAMATIQ: Final[dict[str, str]] = {
    "actor": "an actor runs with its arguments",
    "retry": "an actor that fails is retried through the delay queue until it succeeds",
    "delay": "a message with a delay does not run before its time",
    "dead-letter": "an actor that fails for good leaves its message in the dead-letter queue",
    "priorities": "messages that were sent while no worker ran are run highest priority first",
    "pipeline": "the actors of a pipeline run one after the other",
    "worker-restart": "messages that a stopped worker left are run by the next",
    "broker-restart": "worker and sender go on after the broker is killed and started",
}

TASKIQ: Final[dict[str, str]] = {
    "task": "tasks run in the worker with their arguments, through its quorum queue",
    "retry": "a task that fails is retried until it succeeds",
    "delay": "a task with a delay does not run before its time",
    "priorities": "tasks that were sent to a queue with priorities while no worker ran are run highest first",
    "killed-worker": "a task whose worker is killed runs again on the next",
    "worker-restart": "tasks that were sent while no worker ran are run by the next",
    "broker-restart": "worker and sender go on after the broker is killed and started",
}

PERF_TEST: Final[dict[str, str]] = {
    "default": "its defaults: one publisher, one consumer, transient messages of 12 octets, acknowledged",
    "persistent-confirms": (
        "4 publishers of persistent messages of 1 KiB with 100 unconfirmed each, 4 consumers with a prefetch of 100"
    ),
    "fanout": "one publisher, 10 queues of a fanout exchange with a consumer each, 1 KiB",
    "large-messages": "2 publishers, 2 consumers, transient messages of 128 KiB, prefetch 20",
}

SETS: Final[dict[str, dict[str, str]]] = {
    "common": COMMON,
    "celery": CELERY,
    "faststream": FASTSTREAM,
    "dramatiq": DRAMATIQ,
    "taskiq": TASKIQ,
    "perf-test": PERF_TEST,
}
