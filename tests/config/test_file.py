"""What a configuration file may say, and what the broker says about one that is wrong."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from amqp_broker.config import Address, Config, ConfigError, load_config
from amqp_broker.config.load import check_file

WriteFile = Callable[[str], Path]


@pytest.fixture
def write_file(tmp_path: Path) -> WriteFile:
    def write(text: str) -> Path:
        path = tmp_path / "broker.toml"
        path.write_text(text, "utf-8")
        return path

    return write


def refused(path: Path) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        load_config(path, environ={})
    return caught.value


def test_no_file_means_the_defaults() -> None:
    assert load_config(environ={}) == Config()


def test_an_empty_file_means_the_defaults(write_file: WriteFile) -> None:
    assert load_config(write_file(""), environ={}) == Config()


def test_a_file_changes_what_it_names_and_nothing_else(write_file: WriteFile) -> None:
    path = write_file('[limits]\nconnection_max = 7\n[auth.default_permissions]\nread = "^q"\n')
    config = load_config(path, environ={})
    assert config.limits.connection_max == 7
    assert config.auth.default_permissions.read == "^q"
    assert config.auth.default_permissions.write == ".*"
    assert config.protocol == Config().protocol


def test_dotted_keys_and_inline_tables_are_the_same_options(write_file: WriteFile) -> None:
    dotted = load_config(write_file('log.level = "error"\nauth.default_permissions.read = ""\n'), environ={})
    inline = load_config(
        write_file('log = {level = "error"}\nauth = {default_permissions = {read = ""}}\n'), environ={}
    )
    assert dotted == inline
    assert dotted.log.level == "error"


def test_the_configuration_cannot_be_changed() -> None:
    config = Config()
    with pytest.raises(AttributeError):
        config.limits.connection_max = 1  # type: ignore[misc]
    with pytest.raises(TypeError):
        config.protocol.server_properties["region"] = "eu"  # type: ignore[index]


@pytest.mark.parametrize(
    ("written", "seconds"),
    [("1800", 1800), ('"30m"', 1800), ('"1.5h"', 5400), ('"250ms"', 0.25), ("0.5", 0.5)],
)
def test_a_time_is_a_number_of_seconds_or_has_a_unit(
    write_file: WriteFile, written: str, seconds: float
) -> None:
    config = load_config(write_file(f"[limits]\nconsumer_timeout = {written}\n"), environ={})
    assert config.limits.consumer_timeout == seconds


@pytest.mark.parametrize(
    ("written", "count"),
    [
        ("4096", 4096),
        ('"4096"', 4096),
        ('"50MB"', 50_000_000),
        ('"64KiB"', 65536),
        ('"64 kib"', 65536),
        ('"1.5MiB"', 1572864),
    ],
)
def test_a_size_is_a_number_of_bytes_or_has_a_unit(write_file: WriteFile, written: str, count: int) -> None:
    config = load_config(write_file(f"[protocol]\nframe_max = {written}\n"), environ={})
    assert config.protocol.frame_max == count


def test_listeners_may_be_names_ipv4_and_bracketed_ipv6(write_file: WriteFile) -> None:
    path = write_file('[listeners]\ntcp = ["localhost:0", "0.0.0.0:5672", "[::1]:5672"]\n')
    assert load_config(path, environ={}).listeners.tcp == (
        Address("localhost", 0),
        Address("0.0.0.0", 5672),
        Address("::1", 5672),
    )
    assert str(Address("::1", 5672)) == "[::1]:5672"


def test_extra_server_properties_keep_their_types(write_file: WriteFile) -> None:
    path = write_file('[protocol]\nserver_properties = { region = "eu", racks = 3, test = true }\n')
    properties = load_config(path, environ={}).protocol.server_properties
    assert dict(properties) == {"region": "eu", "racks": 3, "test": True}
    assert properties["test"] is True


def test_the_data_directory_is_absolute_and_knows_the_home_directory(
    write_file: WriteFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    for written in ("~/messages", "messages"):
        config = load_config(write_file(f'[data]\ndirectory = "{written}"\n'), environ={})
        assert config.data.directory == tmp_path / "messages"


def test_an_unknown_key_names_its_line_and_the_nearest_option(write_file: WriteFile) -> None:
    path = write_file("# first\n[protocol]\nheartbeat = 5\nframe_maxx = 4096\n")
    error = refused(path)
    assert (error.line, error.key, error.suggestion) == (4, "protocol.frame_maxx", "protocol.frame_max")
    assert str(error) == f"{path}:4: protocol.frame_maxx: unknown key; did you mean protocol.frame_max?"


@pytest.mark.parametrize(
    ("text", "suggestion"),
    [
        ("[limit]\nconnection_max = 1\n", "limits.connection_max"),
        ("heartbeat = 5\n", "protocol.heartbeat"),
        ("[limits]\nframe_max = 4096\n", "protocol.frame_max"),
        ("vm_memory_high_watermark.relative = 0.4\n", "limits.memory_high_watermark_relative"),
        ("[auth.default_permission]\nread = ''\n", "auth.default_permissions.read"),
        ("[log]\nzebra = 1\n", ""),
    ],
)
def test_the_suggestion_for_an_unknown_key(write_file: WriteFile, text: str, suggestion: str) -> None:
    assert refused(write_file(text)).suggestion == suggestion


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("listeners.tcp", '"127.0.0.1:5672"', "a list of"),
        ("listeners.tcp", '["localhost"]', '"localhost" has no port'),
        ("listeners.tcp", '["localhost:65536"]', "not a port from 0 to 65535"),
        ("listeners.tcp", '["::1:5672"]', "IPv6 address stands in brackets"),
        ("listeners.tcp", '["[::g]:5672"]', "not an IPv6 address"),
        ("listeners.tcp", '[":5672"]', "0.0.0.0 is every IPv4 address"),
        ("listeners.tcp", '["a:1", "a:1"]', "twice"),
        ("listeners.tcp", "[5672]", "a list of"),
        ("listeners.backlog", "0", "from 1 to 65535"),
        ("listeners.backlog", "true", "whole number"),
        ("listeners.backlog", '"10"', "whole number"),
        ("listeners.nodelay", "1", "true or false"),
        ("data.directory", "7", "a path"),
        ("data.durability", '"disk"', 'one of "commit", "process"'),
        ("data.map_size", '"1MiB"', "from 16MiB to 64TiB"),
        ("data.map_size", '"20 miles"', '"miles" is not a unit'),
        ("auth.default_user", '""', "1 to 255 bytes"),
        ("auth.default_user", '"a\\u0000"', "1 to 255 bytes"),
        ("auth.default_vhost", '"' + "v" * 256 + '"', "longer than 255 bytes"),
        ("auth.mechanisms", '["ANONYMOUS"]', '"AMQPLAIN" and "EXTERNAL"'),
        ("auth.external_name", '"subject"', 'one of "common_name", "distinguished_name"'),
        ("auth.backends", '["ldap"]', '"internal", "http", "http+internal" and "internal+http"'),
        ("auth.backends", "[]", "at least one entry"),
        ("auth.http.user_path", '"ftp://a/b"', 'starts with "http://"'),
        ("auth.http.user_path", '"http:///b"', 'starts with "http://"'),
        ("auth.http.vhost_path", '"http://a/b?c=d"', "neither a query nor"),
        ("auth.http.vhost_path", '"http://u:p@a/b"', "nor a user"),
        ("auth.mechanisms", "[]", "at least one entry"),
        ("auth.mechanisms", '["PLAIN", "PLAIN"]', "twice"),
        ("auth.default_permissions.read", '"("', "regular expression"),
        ("auth.default_permissions.read", "'\\p{L}'", "regular expression"),
        ("auth.default_permissions.read", "'(?|a)'", "regular expression"),
        ("auth.default_permissions", '"x"', "expected a table, [auth.default_permissions]"),
        ("protocol.heartbeat", '"1.5s"', "whole number of seconds"),
        ("protocol.heartbeat", "65536", "from 0 to 65535"),
        ("protocol.heartbeat", "1" + "0" * 400, "whole number of seconds"),
        ("protocol.heartbeat", '"soon"', "whole number of seconds"),
        ("protocol.frame_max", "4095", "from 4096"),
        ("protocol.frame_max", "5000.5", "a size"),
        ("protocol.frame_max", "inf", "a size"),
        ("protocol.max_message_size", '"513MiB"', "to 512MiB"),
        ("protocol.handshake_timeout", "0", "from 100ms to 10m"),
        ("protocol.handshake_timeout", "nan", "from 100ms to 10m"),
        ("protocol.server_properties", "{ a = [1] }", "a is none of these"),
        ("protocol.server_properties", "{ a = 9223372036854775808 }", "64 bits"),
        ("limits.memory_high_watermark_relative", "1.1", "from 0 to 1"),
        ("limits.memory_high_watermark_relative", "true", "from 0 to 1"),
        ("limits.consumer_timeout", "-1", "from 0"),
        ("log", '"info"', "expected a table, [log]"),
        ("log.level", '"verbose"', 'one of "debug"'),
    ],
)
def test_a_value_that_is_not_allowed(write_file: WriteFile, key: str, value: str, expected: str) -> None:
    path = write_file(f"# a comment\n\n{key} = {value}\n")
    error = refused(path)
    assert str(error).startswith(f"{path}:3: {key} = ")
    assert expected in str(error)


def test_a_password_is_never_shown(write_file: WriteFile) -> None:
    message = str(refused(write_file("[auth]\ndefault_pass = 271828\n")))
    assert "271828" not in message
    assert "auth.default_pass = ***" in message


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("[log]\nlevel = info\n", 2),
        ("[log]\nlevel = 'info'\nlevel = 'info'\n", 3),
        ("[log\n", 1),
        ('[log]\n\nlevel = """info\n', 4),
    ],
)
def test_text_that_is_not_toml_names_the_line(write_file: WriteFile, text: str, line: int) -> None:
    path = write_file(text)
    assert str(refused(path)).startswith(f"{path}:{line}: not valid TOML: ")


def test_a_file_that_is_missing_or_not_text_is_named(tmp_path: Path) -> None:
    missing = tmp_path / "missing.toml"
    assert str(refused(missing)) == f"{missing}: cannot be read: No such file or directory"
    assert str(refused(tmp_path)) == f"{tmp_path}: cannot be read: Is a directory"
    binary = tmp_path / "binary.toml"
    binary.write_bytes(b"\xff\xfe")
    assert "not UTF-8 text" in str(refused(binary))


def test_a_backend_without_an_address_to_ask(write_file: WriteFile) -> None:
    error = refused(write_file('[auth]\nbackends = ["internal", "http"]\n'))
    assert error.key == "auth.http.user_path"
    assert "has to be an address" in str(error)


def test_watermarks_that_contradict_each_other(write_file: WriteFile) -> None:
    error = refused(write_file("[limits]\noutput_high_watermark = 4096\n"))
    assert (error.key, error.line) == ("limits.output_low_watermark", 1)
    assert "may not be above limits.output_high_watermark" in str(error)


def test_values_that_contradict_each_other_are_found_in_the_file(write_file: WriteFile) -> None:
    path = write_file(
        "[limits]\noutput_high_watermark = 8192\noutput_low_watermark = 9000\n[listeners]\ntcp = []\n"
    )
    assert [(problem.line, problem.key) for problem in check_file(path)] == [
        (3, "limits.output_low_watermark"),
        (5, "listeners.tcp"),
    ]


def test_checking_a_file_reports_every_problem_in_it(write_file: WriteFile) -> None:
    path = write_file("[log]\nlevel = 1\n[data]\nwritter = 'thread'\n[protocol]\nframe_max = 4096\n")
    assert [(problem.line, problem.key) for problem in check_file(path)] == [
        (2, "log.level"),
        (4, "data.writter"),
    ]
    assert check_file(write_file("[log]\nlevel = 'error'\n")) == []
