"""The clients there are: one folder of `interop/clients` each, described by its `client.toml`.

A client is prepared in a copy of its folder in a cache outside the checkout, where whatever its language's package
tool fetches or builds stays until the folder changes. A toolchain that is missing is a reason, not an error.

Keys of client.toml: language, version (the pin), scenarios (a set of scenarios.py), needs (commands on the path),
debian (packages; installed if this is root's), also (files from elsewhere that go into the copy), prepare
(commands), run (the program), installed (a command that prints the version where Debian decides it). In commands
{version} and {python} are filled in.
"""

from __future__ import annotations

import hashlib
import os
import shlex
import shutil
import subprocess
import sys
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from interop.runner.scenarios import SETS

FOLDER: Final = Path(__file__).parents[1] / "clients"
PREPARE_SECONDS: Final = 1800


class NotRun(Exception):
    """The client cannot be run on this machine; the message says why."""


@dataclass
class Client:
    name: str
    description: dict[str, Any]

    @property
    def folder(self) -> Path:
        return FOLDER / self.name

    @property
    def language(self) -> str:
        return str(self.description["language"])

    @property
    def version(self) -> str:
        return str(self.description["version"])

    @property
    def scenarios(self) -> dict[str, str]:
        return SETS[self.description["scenarios"]]

    def command(self, line: str) -> list[str]:
        return [part.format(version=self.version, python=sys.executable) for part in shlex.split(line)]


@dataclass
class Program:
    """A client that is ready to be run: the command, the folder to run it in, the version that it really is."""

    command: list[str]
    folder: Path
    version: str
    environment: dict[str, str] = field(default_factory=dict)


def known() -> dict[str, Client]:
    found = sorted(FOLDER.glob("*/client.toml"))
    return {file.parent.name: Client(file.parent.name, tomllib.loads(file.read_text())) for file in found}


def cache() -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "amqp-broker-interop"


def here(client: Client) -> Program:
    """A Python client as it is installed in this environment, run from its folder. Raises NotRun."""
    words = client.command(client.description["run"])
    if client.language != "Python":
        raise NotRun("only Python clients can be run from this environment")
    program = client.folder / words[1]
    neighbours = {str((client.folder / name).resolve().parent) for name in client.description.get("also", [])}
    found_by = {"PYTHONPATH": os.pathsep.join(sorted(neighbours))}
    return Program([sys.executable, str(program)], client.folder, "installed here", found_by)


def prepare(client: Client) -> Program:
    """The client installed and built in its place in the cache. Raises NotRun."""
    _ask_for_debian(client.description.get("debian", []))
    missing = [command for command in client.description.get("needs", []) if shutil.which(command) is None]
    if missing:
        raise NotRun(f"not on the path: {', '.join(missing)}")
    place = cache() / client.name
    place.mkdir(parents=True, exist_ok=True)
    stamp = place / ".prepared"
    fingerprint = _copy(client, place)
    if not (stamp.exists() and stamp.read_text() == fingerprint):
        stamp.unlink(missing_ok=True)
        for line in client.description.get("prepare", []):
            _run(client.command(line), place)
        stamp.write_text(fingerprint)
    command = client.command(client.description["run"])
    if (place / command[0]).exists():
        command[0] = str(place / command[0])
    version = client.version
    if "installed" in client.description:
        version = _run(client.command(client.description["installed"]), place).strip()
    return Program(command, place, version)


def _copy(client: Client, place: Path) -> str:
    """Bring the copy up to date; a hash of all that was copied."""
    files = sorted(file for file in client.folder.rglob("*") if file.is_file() and file.suffix != ".pyc")
    pairs = [(file, file.relative_to(client.folder)) for file in files]
    pairs += [(client.folder / name, Path(Path(name).name)) for name in client.description.get("also", [])]
    fingerprint = hashlib.sha256()
    for source, name in pairs:
        content = source.read_bytes()
        fingerprint.update(f"{name} {len(content)} ".encode() + content)
        target = place / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if not target.exists() or target.read_bytes() != content:
            target.write_bytes(content)
    return fingerprint.hexdigest()


def _ask_for_debian(packages: list[str]) -> None:
    if not packages:
        return
    if shutil.which("dpkg-query") is None:
        raise NotRun(f"needs the Debian packages {' '.join(packages)}")
    shown = subprocess.run(
        ["dpkg-query", "-W", "-f", "${Package} ${db:Status-Status}\n", *packages],
        capture_output=True,
        text=True,
        check=False,
    )
    there = {line.split()[0] for line in shown.stdout.splitlines() if line.endswith(" installed")}
    missing = [package for package in packages if package not in there]
    if not missing:
        return
    install = ["apt-get", "install", "-y", "--no-install-recommends", *missing]
    if os.geteuid() != 0:
        raise NotRun(f"not installed: {' '.join(install)}")
    _run(install, Path("/"))


def _run(command: list[str], folder: Path) -> str:
    # The copy of a program finds its neighbours beside it, which this setting would forbid.
    environment = {key: text for key, text in os.environ.items() if key != "PYTHONSAFEPATH"}
    done = subprocess.run(
        command,
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PREPARE_SECONDS,
        preexec_fn=lambda: os.nice(10),
        check=False,
    )
    if done.returncode != 0:
        last = (done.stdout + done.stderr).strip().splitlines()[-15:]
        raise NotRun(f"`{' '.join(command)}` failed:\n" + "\n".join(last))
    return done.stdout
