# ruff: noqa: E501 - a table has a row a line
"""Settings: code < file < environment < flags; what is not known is refused; secrets stay secret."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from millstream.ops.errors import SettingsError
from millstream.ops.settings import RunSettings, setting_names
from millstream.workers.settings import AppSettings
from tests.shape.tree import files


def test_without_anything_the_defaults_hold() -> None:
    """Whoever starts a broker and an app with no settings at all finds both on this machine."""
    settings = RunSettings.of(environment={})
    assert settings == RunSettings()
    assert settings.kafka_settings().bootstrap_servers == "127.0.0.1:9092"


_PLACES = ("code", "file", "environment", "flags")


@given(st.sets(st.sampled_from(_PLACES), min_size=1))
def test_a_later_place_wins(tmp_path_factory: pytest.TempPathFactory, places: set[str]) -> None:
    """Whichever of the four places say something, the last of them in the order code, file, environment, flags decides."""
    file = tmp_path_factory.mktemp("settings") / "millstream.toml"
    file.write_text('poll_records_max = 2\n[kafka]\n"session.timeout.ms" = 20002\n' if "file" in places else "")
    code = {"poll_records_max": 1, "kafka": {"session.timeout.ms": 20001}}
    environment = {"MILLSTREAM_POLL_RECORDS_MAX": "3", "MILLSTREAM_KAFKA_SESSION_TIMEOUT_MS": "20003"}
    flags = {"poll-records-max": "4", "kafka.session.timeout.ms": "20004"}
    settings = RunSettings.of(
        code=code if "code" in places else None,
        file=file,
        environment=environment if "environment" in places else {},
        flags=flags if "flags" in places else None,
    )
    last = max(_PLACES.index(place) for place in places) + 1
    assert settings.poll_records_max == last
    assert settings.kafka_settings().session_timeout_ms == 20000 + last


_WRONG = """
environment  | MILLSTREAM_BROKER=k:1                 | environment: no setting MILLSTREAM_BROKER; did you mean 'MILLSTREAM_BROKERS'?
environment  | MILLSTREAM_HTTP_PORT=70000            | MILLSTREAM_HTTP_PORT: expected a whole number from 0 to 65535, got '70000'
environment  | MILLSTREAM_BROKERS=kafka              | MILLSTREAM_BROKERS: expected 'host:port', or several with commas ('kafka' is none), got 'kafka'
environment  | MILLSTREAM_SECURITY_PROTOCOL=TLS      | MILLSTREAM_SECURITY_PROTOCOL: expected one of PLAINTEXT, SSL, SASL_PLAINTEXT, SASL_SSL, got 'TLS'
environment  | MILLSTREAM_SASL_PASSWORD=             | MILLSTREAM_SASL_PASSWORD: expected a text that is not empty, got (not shown)
flags        | log_fromat=json                       | --set: no setting 'log_fromat'; did you mean 'log_format'?
flags        | log_format=xml                        | --set log_format: expected one of console, json, got 'xml'
flags        | commit_interval=soon                  | --set commit_interval: expected a duration such as '500ms' or '10s', got 'soon'
flags        | create_topics=perhaps                 | --set create_topics: expected true or false, got 'perhaps'
code         | http_prot=1                           | setting: no setting 'http_prot'; did you mean 'http_port'?
"""


@pytest.mark.parametrize("line", _WRONG.strip().splitlines())
def test_what_is_wrong_is_named_with_its_place(line: str) -> None:
    """The value, the place, and the closest right word."""
    place, given_text, expected = (part.strip() for part in line.split(" | "))
    name, _, value = given_text.partition("=")
    layers: dict[str, Any] = {"environment": {}} | {place: {name: value}}
    with pytest.raises(SettingsError) as raised:
        RunSettings.of(**layers)
    assert str(raised.value) == expected


def test_a_wrong_line_of_the_file_is_named(tmp_path: Path) -> None:
    file = tmp_path / "millstream.toml"
    file.write_text('brokers = "k:9092"\nlog_fromat = "json"\n')
    with pytest.raises(SettingsError) as raised:
        RunSettings.of(file=file, environment={})
    assert str(raised.value) == f"{file}:2: no setting 'log_fromat'; did you mean 'log_format'?"


def test_the_file_may_be_named_by_a_variable(tmp_path: Path) -> None:
    file = tmp_path / "millstream.toml"
    file.write_text('log_format = "json"\n')
    assert RunSettings.of(environment={"MILLSTREAM_SETTINGS": str(file)}).log_format == "json"


def test_variables_that_others_read_are_left_alone() -> None:
    assert RunSettings.of(environment={"MILLSTREAM_CACHE": "/c", "MILLSTREAM_TEST_BROKERS": "x"}) == RunSettings()


def test_every_variable_that_our_own_code_names_may_be_set() -> None:
    """A worker that is given the URI of its index, or told to do without the native library, starts."""
    texts = [path.read_text() for path in files("native", "topics", "state", "workers", "rag", "ops", suffix=".py")]
    named = {name for text in texts for name in re.findall(r'"(MILLSTREAM_[A-Z_]*[A-Z])"', text)}
    settings = {f"MILLSTREAM_{name.upper()}" for name in setting_names()}
    elsewhere = ("MILLSTREAM_KAFKA", "MILLSTREAM_SETTINGS")  # a family of settings, and the file of all
    others = {name for name in named - settings if not name.startswith(elsewhere)}
    assert {"MILLSTREAM_NATIVE", "MILLSTREAM_PGVECTOR_URI"} <= others
    assert RunSettings.of(environment=dict.fromkeys(others, "1")) == RunSettings()


def test_secrets_are_in_no_repr_and_reach_the_client() -> None:
    settings = RunSettings.of(
        environment={
            "MILLSTREAM_SECURITY_PROTOCOL": "SASL_SSL",
            "MILLSTREAM_SASL_MECHANISM": "SCRAM-SHA-512",
            "MILLSTREAM_SASL_USERNAME": "ada",
            "MILLSTREAM_SASL_PASSWORD": "hunter2",
            "MILLSTREAM_KAFKA_SSL_KEY_PASSWORD": "hunter3",
        }
    )
    assert "hunter" not in repr(settings)
    assert sorted(settings.secrets()) == ["hunter2", "hunter3"]
    client = settings.kafka_settings()
    assert (client.sasl_username, client.sasl_password, client.ssl_key_password) == ("ada", "hunter2", "hunter3")
    assert "hunter" not in repr(client)


def test_an_apps_settings_are_replaced_by_what_was_given_and_no_more() -> None:
    app = AppSettings.of("shop", guarantee="at_least_once", commit_interval="2s")
    given_settings = RunSettings.of(code={"state_dir": "elsewhere", "instance_id": "w1"}, environment={})
    changed = given_settings.applied_to(app)
    assert (changed.state_dir, changed.instance_id) == (Path("elsewhere"), "w1")
    assert (changed.guarantee, changed.commit_interval_ms) == ("at_least_once", 2_000)


def test_another_guarantee_brings_its_own_commit_interval_unless_one_was_chosen() -> None:
    to_least = RunSettings.of(code={"guarantee": "at_least_once"}, environment={})
    assert to_least.applied_to(AppSettings.of("shop")).commit_interval_ms == 1_000
    assert to_least.applied_to(AppSettings.of("shop", commit_interval="3s")).commit_interval_ms == 3_000


def test_every_setting_has_a_help_text_and_is_listed() -> None:
    assert [one.name for one in fields(RunSettings) if one.name != "kafka"] == setting_names()
    assert [one.name for one in fields(RunSettings) if not one.metadata["help"].endswith(".")] == []
