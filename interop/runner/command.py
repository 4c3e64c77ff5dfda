"""The command `interop/run`: which clients play which scenarios with which broker, and what is printed of it."""

from __future__ import annotations

import argparse
import contextlib
import datetime
import importlib.util
import os
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from typing import Final

from interop.runner import clients, results
from interop.runner.brokers import KINDS, Authority, Broker, BrokerUnavailable
from interop.runner.clients import Client, NotRun, Program
from interop.runner.play import play

ROOT: Final = Path(__file__).parents[2]
DIFFERENTIAL: Final = "differential"


def arguments(words: list[str]) -> argparse.Namespace:
    names = [DIFFERENTIAL, *clients.known()]
    parser = argparse.ArgumentParser(
        prog="interop/run", description="The same work against this broker and a RabbitMQ."
    )
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help=f"what to run; everything if none: {', '.join(names)}"
    )
    parser.add_argument("--broker", action="append", choices=list(KINDS), help="with this broker only")
    parser.add_argument("--scenario", action="append", metavar="NAME", help="this scenario only")
    parser.add_argument(
        "--without", action="append", default=[], metavar="NAME", help="all but this scenario"
    )
    parser.add_argument("--list", action="store_true", help="print the clients and what they have to show")
    parser.add_argument("--prepare", action="store_true", help="install and build the clients, and no more")
    parser.add_argument(
        "--here", action="store_true", help="Python clients as installed in this environment; fetches nothing"
    )
    parser.add_argument(
        "--results", type=Path, default=results.FILE, help="the file that keeps what came of it (%(default)s)"
    )
    parser.add_argument(
        "--write-table", action="store_true", help="write the table of docs/compatibility.md, and no more"
    )
    chosen = parser.parse_args(words)
    unknown = [name for name in chosen.names if name not in names]
    if unknown:
        parser.error(f"unknown: {', '.join(unknown)}; there are {', '.join(names)}")
    return chosen


def main(words: list[str]) -> int:
    chosen = arguments(words)
    if chosen.write_table:
        results.PAGE.write_text(results.page_with(results.table(results.load(results.FILE))))
        return 0
    known = clients.known()
    picked = [known[name] for name in chosen.names or known if name in known]
    if chosen.list:
        for client in picked:
            print(f"{client.name} {client.version} ({client.language})")
            for name, expected in client.scenarios.items():
                print(f"    {name}: {expected}")
        return 0
    # Brokers and programs are children in groups of their own: they end only if this ends in good order.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    if picked and not chosen.prepare and importlib.util.find_spec("trustme") is None:
        needed = "which makes the certificates of both brokers: pip install '.[test]' there"
        print(f"{sys.executable} does not have trustme, {needed}", file=sys.stderr)
        return 1
    ready, not_run = _prepared(picked, chosen.here)
    if chosen.prepare:
        return 1 if not_run else 0
    failed = bool(picked) and _run_all(ready, chosen, not_run)
    if DIFFERENTIAL in chosen.names or not chosen.names:
        print(f"\n{DIFFERENTIAL}", flush=True)
        environment = {key: text for key, text in os.environ.items() if key != "PYTHONSAFEPATH"}
        command = [sys.executable, "-m", "interop.differential"]
        done = subprocess.run(command, cwd=ROOT, env=environment, check=False)
        failed = failed or done.returncode != 0
    return 1 if failed else 0


def _prepared(picked: list[Client], here: bool) -> tuple[list[tuple[Client, Program]], list[str]]:
    """Those that can be run, each with its program, and the names of the others, of which it says why not."""
    ready, not_run = [], []
    for client in picked:
        print(f"{client.name}: {'here' if here else 'preparing'}", file=sys.stderr, flush=True)
        try:
            ready.append((client, clients.here(client) if here else clients.prepare(client)))
        except NotRun as reason:
            print(f"{client.name:18} not run: {reason}", flush=True)
            not_run.append(client.name)
    return ready, not_run


def _run_all(ready: list[tuple[Client, Program]], chosen: argparse.Namespace, not_run: list[str]) -> bool:
    """Whether anything failed, or the broker that was to be looked at was not to be had at all."""
    rows: list[results.Row] = []
    with tempfile.TemporaryDirectory(prefix="interop-") as folder:
        authority = Authority(Path(folder))
        for key in (chosen.broker or KINDS) if ready else ():
            with contextlib.ExitStack() as stack:
                try:
                    broker = KINDS[key](Path(folder) / key, authority)
                    stack.callback(broker.close)
                    broker.start()
                except BrokerUnavailable as reason:
                    print(f"{KINDS[key].name}: not run: {reason}")
                    not_run.append(f"all with {KINDS[key].name}")
                    continue
                for client, program in ready:
                    names = [
                        name for name in chosen.scenario or client.scenarios if name not in chosen.without
                    ]
                    rows += _run_one(client, program, broker, authority, names)
                    results.save(chosen.results, rows)
    _print_counts(rows, not_run)
    looked_at = KINDS[next(iter(chosen.broker or KINDS))].name
    return any(row["outcome"] == "failed" for row in rows) or looked_at not in {row["broker"] for row in rows}


def _run_one(
    client: Client, program: Program, broker: Broker, authority: Authority, names: list[str]
) -> list[results.Row]:
    print(f"\n{client.name} {program.version} with {broker.name} {broker.version}", flush=True)
    rows = []
    for result in play(program, [name for name in names if name in client.scenarios], broker, authority):
        print(f"    {result.scenario:30} {result.outcome:7} {result.detail}", flush=True)
        rows.append(
            {
                "client": client.name,
                "version": program.version,
                "broker": broker.name,
                "broker_version": broker.version,
                "scenario": result.scenario,
                "outcome": result.outcome,
                "detail": result.detail,
                "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
            }
        )
    return rows


def _print_counts(rows: list[results.Row], not_run: list[str]) -> None:
    counts = Counter((row["client"], row["broker"], row["outcome"]) for row in rows)
    print(f"\n{'client':18} {'broker':12} {'ok':>4} {'failed':>7} {'cannot':>7}")
    for client, broker in dict.fromkeys((row["client"], row["broker"]) for row in rows):
        figures = [counts[client, broker, outcome] for outcome in ("ok", "failed", "cannot")]
        print(f"{client:18} {broker:12} {figures[0]:4} {figures[1]:7} {figures[2]:7}")
    if not_run:
        print(f"not run: {', '.join(not_run)}")
