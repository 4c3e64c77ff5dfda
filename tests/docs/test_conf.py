"""The examples in conf/: configurations that load and are as safe as they say, a unit and a Dockerfile that fit."""

from __future__ import annotations

import configparser
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

import pytest

from amqp_broker.cli.main import main, plain_serve_flags
from amqp_broker.config import Config, load_config
from amqp_broker.config.load import check_file
from tests.docs.pages import ROOT
from tests.server.broker_process import BrokerProcess, free_port

CONF: Final = ROOT / "conf"
EXAMPLES: Final = ("development.toml", "production.toml", "container.toml")
LOOPBACK: Final = ("127.0.0.1", "::1", "localhost")
UNIT: Final = CONF / "amqp-broker.service"
# What a broker cannot do without, in systemd's words.
THE_NETWORK: Final = {"PrivateNetwork=", "RestrictAddressFamilies=~AF_(INET|INET6)"}
HEALTHCHECK: Final = CONF / "healthcheck.py"


@pytest.mark.parametrize("name", EXAMPLES)
def test_an_example_loads_and_says_more_than_the_defaults(name: str) -> None:
    assert check_file(CONF / name) == []
    assert load_config(CONF / name, {}) != Config()


def test_nobody_outside_reaches_a_broker_for_development() -> None:
    config = load_config(CONF / "development.toml", {})
    assert [address.host for address in config.listeners.tcp if address.host not in LOOPBACK] == []
    assert config.listeners.tls == ()


def test_nobody_outside_reaches_a_broker_in_production_without_tls_or_with_a_well_known_password() -> None:
    config = load_config(CONF / "production.toml", {})
    assert [address.host for address in config.listeners.tcp if address.host not in LOOPBACK] == []
    assert {address.port for address in config.listeners.tls} == {5671}
    assert config.tls.verify != "none"
    assert config.data.durability == "commit"
    assert {"guest", config.auth.default_user} <= set(config.auth.loopback_users)
    assert "default_pass" not in re.sub("#.*", "", (CONF / "production.toml").read_text())
    assert config.limits.connection_max > 0


def test_a_container_can_be_reached_but_not_as_guest() -> None:
    config = load_config(CONF / "container.toml", {})
    assert any(address.host == "0.0.0.0" for address in config.listeners.tcp)
    assert "guest" in config.auth.loopback_users
    assert config.log.file == ""


# -- the unit


def unit() -> dict[str, dict[str, list[str]]]:
    """Sections of the unit, each with every value of a key."""
    sections: dict[str, dict[str, list[str]]] = {}
    for line in UNIT.read_text().splitlines():
        if line.startswith("["):
            section = sections.setdefault(line.strip("[]"), {})
        elif line and not line.startswith("#"):
            key, _, value = line.partition("=")
            section.setdefault(key, []).append(value)
    return sections


def test_the_unit_is_sandboxed_and_gives_the_broker_time_and_descriptors() -> None:
    configparser.ConfigParser(strict=False, interpolation=None).read_string(UNIT.read_text())
    service = unit()["Service"]
    expected = {
        "Type": "exec",
        "NoNewPrivileges": "yes",
        "ProtectSystem": "strict",
        "ProtectHome": "yes",
        "PrivateTmp": "yes",
        "PrivateDevices": "yes",
        "MemoryDenyWriteExecute": "yes",
        "RestrictNamespaces": "yes",
        "CapabilityBoundingSet": "",
        "KillMode": "mixed",
        "StateDirectory": "amqp-broker",
        "Restart": "on-failure",
    }
    assert {key: service[key] for key in expected} == {key: [value] for key, value in expected.items()}
    assert service["User"] != ["root"]
    assert int(service["LimitNOFILE"][0]) >= 65536
    assert int(service["TimeoutStopSec"][0].removesuffix("s")) >= 60
    (reload,) = service["ExecReload"]
    assert "-HUP" in reload


def test_the_unit_starts_a_command_that_there_is_in_the_place_that_it_may_write() -> None:
    service = unit()["Service"]
    program, *arguments = service["ExecStart"][0].split()
    assert Path(program).name == "amqp-broker"
    assert plain_serve_flags(arguments) is not None
    variable, _, directory = service["Environment"][0].partition("=")
    assert load_config(environ={variable: directory}).data.directory == Path("/var/lib/amqp-broker")
    assert Path("/var/lib", service["StateDirectory"][0]) == Path(directory)


def systemd_says(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["systemd-analyze", *arguments], capture_output=True, text=True, timeout=60, check=False
    )


def test_every_line_of_the_unit_is_one_and_systemd_where_it_is_there_finds_it_safe(tmp_path: Path) -> None:
    assert set(unit()) == {"Unit", "Service", "Install"}
    assert [
        line for line in UNIT.read_text().splitlines() if not re.match(r"$|#|\[\w+\]$|[A-Z]\w+=", line)
    ] == []
    if shutil.which("systemd-analyze") is None:
        return
    # The command that it starts has to be there for systemd, so another one stands in for it.
    copy = tmp_path / "amqp-broker.service"
    copy.write_text(UNIT.read_text().replace("/opt/amqp-broker/bin/amqp-broker", "/bin/true"))
    verified = systemd_says("verify", "--man=no", str(copy))
    assert [line for line in verified.stderr.splitlines() if copy.name in line] == []
    security = systemd_says("security", "--offline=true", "--json=short", str(copy))
    exposed = {row["name"] for row in json.loads(security.stdout) if float(row["exposure"] or 0) >= 0.3}
    assert exposed == THE_NETWORK


# -- the Dockerfile


def instructions() -> list[tuple[str, str]]:
    """Name and arguments of each instruction, continued lines joined."""
    text = re.sub(r"^#.*\n", "", (CONF / "Dockerfile").read_text(), flags=re.MULTILINE)
    lines = re.sub(r"\\\n\s*", "", text).splitlines()
    return [(line.split(None, 1)[0], line.split(None, 1)[1]) for line in lines if line.strip()]


def of_kind(name: str) -> list[str]:
    return [arguments for kind, arguments in instructions() if kind == name]


def test_the_dockerfile_copies_what_there_is() -> None:
    copied = 0
    for arguments in of_kind("COPY"):
        if not arguments.startswith("--from="):
            *sources, _ = arguments.split()
            copied += len(sources)
            assert [source for source in sources if not (ROOT / source).exists()] == []
    assert copied >= 6


def test_the_dockerfile_copies_what_an_installation_needs() -> None:
    named = " ".join(of_kind("COPY"))
    for needed in ("pyproject.toml", "setup.py", "README.md", "LICENSE", "amqp_broker"):
        assert needed in named


def test_the_image_runs_as_a_user_with_its_data_on_a_volume() -> None:
    (user,) = of_kind("USER")
    assert user not in ("root", "0")
    assert f" {user} " in " ".join(of_kind("RUN")) + " "
    (volume,) = of_kind("VOLUME")
    config = load_config(CONF / "container.toml", {})
    assert str(config.data.directory) == volume
    assert of_kind("EXPOSE") == ["5672 5671"]
    assert str(config.listeners.tcp[0].port) in of_kind("EXPOSE")[0].split()
    order = [kind for kind, _ in instructions()]
    assert order.index("USER") < order.index("ENTRYPOINT")


def test_the_image_starts_a_command_that_the_command_line_takes() -> None:
    (entry,), (command,) = of_kind("ENTRYPOINT"), of_kind("CMD")
    assert json.loads(entry) == ["amqp-broker"]
    flags = plain_serve_flags(json.loads(command))
    assert flags is not None
    targets = {arguments.split()[-1]: arguments.split()[0] for arguments in of_kind("COPY")}
    assert targets[str(flags["--config"])] == "conf/container.toml"


def test_the_check_of_the_images_health_is_the_one_that_is_copied() -> None:
    (health,) = of_kind("HEALTHCHECK")
    command = json.loads(health[health.index("CMD") + 4 :])
    targets = {arguments.split()[-1]: arguments.split()[0] for arguments in of_kind("COPY")}
    assert targets[command[1]] == "conf/healthcheck.py"
    assert command[2:] == ["--port", "5672"]


# -- the check of health


def health(port: int) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-I", str(HEALTHCHECK), "--port", str(port), "--timeout", "2"],
        capture_output=True, text=True, timeout=20, check=False,
    )  # fmt: skip


def test_a_broker_that_answers_is_healthy_and_one_that_is_gone_is_not(tmp_path: Path) -> None:
    broker = BrokerProcess(tmp_path / "data").start()
    try:
        answer = health(broker.port)
        assert (answer.returncode, answer.stderr) == (0, "")
    finally:
        broker.stop()
    gone = health(broker.port)
    assert gone.returncode == 1
    assert "refused" in gone.stderr


def test_a_port_where_nobody_listens_is_not_healthy() -> None:
    port = free_port()
    assert health(port).stderr.startswith(f"127.0.0.1:{port}: ")


@pytest.mark.parametrize("name", EXAMPLES)
def test_check_config_accepts_the_examples(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check-config", "--values-only", str(CONF / name)]) == 0
    assert capsys.readouterr().out == f"{CONF / name}: ok\n"
