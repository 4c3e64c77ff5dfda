"""The file and the page that are written from the declared options are neither stale nor wrong."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from amqp_broker.config import Config, load_config
from amqp_broker.config.__main__ import main
from amqp_broker.config.options import options
from amqp_broker.config.render import configuration_file, configuration_page

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("name", ["conf/broker.toml", "docs/configuration.md", "docs/rabbitmq-conf.md"])
def test_what_is_generated_is_not_stale(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--check", str(ROOT / name)]) == 0, capsys.readouterr().err


def test_the_file_with_every_option_loads_and_equals_the_defaults() -> None:
    assert load_config(ROOT / "conf/broker.toml", environ={}) == Config()


def test_every_option_stands_in_both_with_advice_that_says_something() -> None:
    file, page = configuration_file().splitlines(), configuration_page()
    for path, option in options().items():
        name = path.rpartition(".")[2]
        assert any(line.startswith(f"{name} = ") for line in file)
        assert f"`{option.variable}`" in page
        assert len(option.advice.split()) >= 8, path
        assert option.advice.endswith("."), path


def test_each_default_is_allowed_and_comes_back_from_its_toml() -> None:
    for option in options().values():
        written = option.kind.toml(option.default)
        assert option.kind.parse(tomllib.loads(f"it = {written}")["it"]) == option.default


def test_a_stale_file_is_said_to_be_and_can_be_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "broker.toml"
    path.write_text("[log]\n")
    assert main(["--check", str(path)]) == 1
    assert "stale" in capsys.readouterr().err
    assert main(["--write", str(path)]) == 0
    assert main(["--check", str(path)]) == 0


def test_other_files_are_left_alone(tmp_path: Path) -> None:
    other = tmp_path / "other.toml"
    assert main(["--write", str(other)]) == 2
    assert not other.exists()
    assert main([]) == 2
