"""RabbitMQ's PerfTest with its defaults and on three workloads; what it says of itself is the detail.

PERF_TEST_SECONDS in the environment is how long each runs; short runs show only that it works.
"""

from __future__ import annotations

import os
import re
import subprocess

from harness import URL, main

SECONDS = os.environ.get("PERF_TEST_SECONDS", "5")
RATES = re.compile(r"(sending|receiving) rate avg: (\d+) msg/s")
LATENCY = re.compile(r"consumer latency min/median/75th/95th/99th (\S+) (\S+)")


def perf_test(*options: str) -> str:
    """Run it and return its own average rates."""
    command = [
        "java",
        "-cp",
        "lib/*",
        "com.rabbitmq.perf.PerfTest",
        "--uri",
        f"{URL}%2f",
        "--time",
        SECONDS,
        *options,
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=int(SECONDS) + 60, check=False)
    rates = dict(RATES.findall(done.stdout))
    if done.returncode != 0 or set(rates) != {"sending", "receiving"}:
        raise AssertionError((done.stdout + done.stderr)[-400:])
    if not all(int(rate) for rate in rates.values()):
        raise AssertionError(f"nothing went through: {rates}")
    latency = LATENCY.findall(done.stdout)
    median = f", consumer latency median {latency[-1][0].split('/')[1]} {latency[-1][1]}" if latency else ""
    return f"sent {rates['sending']}/s, received {rates['receiving']}/s in {SECONDS} s{median}"


def default() -> str:
    return perf_test()


def persistent_confirms() -> str:
    options = (
        "--producers",
        "4",
        "--consumers",
        "4",
        "--size",
        "1024",
        "--flag",
        "persistent",
        "--confirm",
        "100",
    )
    return perf_test(*options, "--qos", "100", "--queue", "perf-confirms", "--auto-delete", "true")


def fanout() -> str:
    options = ("--exchange", "perf-fanout", "--type", "fanout", "--size", "1024", "--producers", "1")
    pattern = ("--queue-pattern", "perf-fanout-%d", "--queue-pattern-from", "1", "--queue-pattern-to", "10")
    return perf_test(*options, *pattern, "--consumers", "10", "--autoack")


def large_messages() -> str:
    options = ("--producers", "2", "--consumers", "2", "--size", "131072", "--qos", "20")
    return perf_test(*options, "--queue", "perf-large", "--auto-delete", "true")


if __name__ == "__main__":
    main(
        {
            "default": default,
            "persistent-confirms": persistent_confirms,
            "fanout": fanout,
            "large-messages": large_messages,
        }
    )
