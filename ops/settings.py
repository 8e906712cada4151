"""How a run is set up, as one frozen value: code < file < environment < flags.

    code         millstream.run(app, brokers="kafka:9092"), and what the app itself says (`AppSettings`)
    file         --settings millstream.toml, or MILLSTREAM_SETTINGS: keys are the names below, Kafka's own in [kafka]
    environment  MILLSTREAM_<NAME>; any other of Kafka's settings as MILLSTREAM_KAFKA_<NAME>
    flags        --name value, or --set name=value

A name that is not known is an error in each of them, as a misspelt setting that is ignored is worse than one that is
refused. The table in docs/reference/settings.md is made from the fields here.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import Field, dataclass, fields, replace
from pathlib import Path
from typing import Any, Final, Self

from ..topics.kafka.settings import KafkaSettings
from ..workers.settings import DEFAULT_COMMIT_INTERVAL_MS, AppSettings
from .errors import SettingsError
from .setting import did_you_mean, flag, milliseconds, one_of, path, servers, setting, text, whole

PREFIX: Final = "MILLSTREAM_"
KAFKA_PREFIX: Final = "MILLSTREAM_KAFKA_"
FILE_VARIABLE: Final = "MILLSTREAM_SETTINGS"

NOT_OURS: Final = (
    "MILLSTREAM_CACHE",
    "MILLSTREAM_DEBUG",
    "MILLSTREAM_NATIVE",
    "MILLSTREAM_PGVECTOR_",
    "MILLSTREAM_SETTINGS",
    "MILLSTREAM_TEST_",
    "MILLSTREAM_TOKEN",
)
"""Variables with the prefix that others read: the local broker (cache), the command line, the native library, the index in PostgreSQL,
this module, the tests, clients."""

_KAFKA_FIELDS: Final = (
    "security_protocol",
    "sasl_mechanism",
    "sasl_username",
    "sasl_password",
    "ssl_ca_location",
    "ssl_certificate_location",
    "ssl_key_location",
    "ssl_key_password",
)
"""Fields that are Kafka's settings of the same name with dots."""


def _as_it_is(value: object) -> object:
    """Kafka's own settings are read by `KafkaSettings`."""
    return value


@dataclass(frozen=True, slots=True)
class RunSettings:
    """None where the app, respectively the client, decides. Build it with `RunSettings.of`."""

    brokers: str = setting("127.0.0.1:9092", servers, "Where Kafka is: `host:port`, several with commas.")
    security_protocol: str | None = setting(
        None, one_of("PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"), "How to talk to it."
    )
    sasl_mechanism: str | None = setting(
        None, one_of("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"), "How to log in, with a SASL protocol."
    )
    sasl_username: str | None = setting(None, text, "Who logs in.")
    sasl_password: str | None = setting(None, text, "Never shown, never logged.", secret=True)
    ssl_ca_location: str | None = setting(None, text, "File of the certificates to trust (PEM).")
    ssl_certificate_location: str | None = setting(None, text, "File of our own certificate (PEM).")
    ssl_key_location: str | None = setting(None, text, "File of its key (PEM).")
    ssl_key_password: str | None = setting(None, text, "Of that file. Never shown, never logged.", secret=True)
    connect_timeout_ms: int = setting(
        30_000,
        milliseconds,
        "How long `run` waits at the start for a broker that does not answer, before it ends with 3.",
    )

    guarantee: str | None = setting(None, one_of("exactly_once", "at_least_once"), "What a crash may cost.")
    commit_interval_ms: int | None = setting(None, milliseconds, "Time between commits.")
    start_from: str | None = setting(
        None, one_of("earliest", "latest"), "Where a partition without a committed offset begins."
    )
    state_dir: Path | None = setting(None, path, "Folder of local state; one process a folder.")
    checkpoint_interval_ms: int | None = setting(None, milliseconds, "Time between writes of state to RocksDB.")
    join_buffer_bytes_max: int | None = setting(
        None,
        whole(0),
        "Memory of the rows one task keeps for one join by time or pattern; the rest is in scratch files.",
    )
    poll_records_max: int | None = setting(None, whole(1), "Records worked on at a time.")
    instance_id: str | None = setting(
        None,
        text,
        "Static membership (`group.instance.id`): a restart causes no rebalance. Default: host name and a mark of `state_dir`.",
    )
    leave_on_stop: bool | None = setting(
        None, flag, "Leave the group at SIGTERM too: for a stop that is not a restart. Ctrl-C always leaves."
    )
    standby_replicas: int | None = setting(
        None, whole(0, 16), "Warm copies of each shard's state on other workers: a failover restores a tail only."
    )
    create_topics: bool | None = setting(None, flag, "Whether missing input and output topics are created.")
    internal_replication: int | None = setting(None, whole(1), "Replicas of changelog and repartition topics.")

    until_end: bool = setting(
        False, flag, "Stop when the end of every input, as it is at the start, has been worked off."
    )
    http_host: str = setting("127.0.0.1", text, "Where /metrics, /health and /ready listen.")
    http_port: int | None = setting(None, whole(0, 65535), "Their port; 0: a free one. Without it nothing listens.")
    gateway_host: str = setting(
        "127.0.0.1", text, "Where the gateway listens; elsewhere than on this machine it needs tokens."
    )
    gateway_port: int | None = setting(
        None, whole(0, 65535), "Its port; 0: a free one. `run` has a gateway if it is given; `gateway` takes 8080."
    )
    gateway_tokens: str | None = setting(
        None, text, "Who may ask it: bearer tokens, with commas. Never shown, never logged.", secret=True
    )
    gateway_index: bool = setting(
        True, flag, "Whether it looks chunks up in an index of its own (in `run`, the worker's), or has workers do it."
    )
    gateway_timeout_ms: int = setting(60_000, milliseconds, "For a request to it, from its head to its answer.")
    gateway_body_bytes_max: int = setting(32 << 20, whole(1), "Of a request to it.")
    gateway_concurrency_max: int = setting(256, whole(1), "Requests to it at a time; one more is answered 503.")
    gateway_streams_max: int = setting(256, whole(1), "Standing questions listened to at a time.")
    gateway_late_answers_max: int = setting(
        1_000, whole(1), "Questions that timed out whose answers are kept, to be asked for by their id."
    )
    gateway_late_answers_bytes_max: int = setting(64 << 20, whole(1), "Of all these answers together.")
    gateway_late_answers_age_max_ms: int = setting(3_600_000, milliseconds, "How long one is kept.")
    gateway_requests_per_minute_max: int = setting(6_000, whole(1), "Of one token; one more is answered 429.")
    gateway_burst_requests_max: int = setting(600, whole(1), "Of one token, at once.")
    gateway_cors_origins: str | None = setting(
        None, text, "Origins whose pages may ask it from a browser, with commas. Default: none."
    )
    log_format: str = setting("console", one_of("console", "json"), "Lines for people, or one JSON object a line.")
    log_level: str = setting("info", one_of("debug", "info", "warning", "error"), "The least level that is written.")

    kafka: tuple[tuple[str, str], ...] = setting(
        (), _as_it_is, "Any other of Kafka's client settings, by its own name."
    )

    @classmethod
    def of(
        cls,
        *,
        code: Mapping[str, object] | None = None,
        file: Path | None = None,
        environment: Mapping[str, str] | None = None,
        flags: Mapping[str, object] | None = None,
    ) -> Self:
        """`environment`: default `os.environ`. Later ones win. Raises SettingsError naming place, value and next step."""
        variables = os.environ if environment is None else environment
        named = file or (Path(variables[FILE_VARIABLE]) if variables.get(FILE_VARIABLE) else None)
        layers = [
            *_from_mapping(code or {}, "setting"),
            *(_from_file(named) if named else ()),
            *_from_environment(variables),
            *_from_mapping(flags or {}, "--set"),
        ]
        values: dict[str, Any] = {}
        kafka: dict[str, str] = {}
        for name, value, place in layers:
            if name.startswith("kafka."):
                kafka[name.removeprefix("kafka.")] = str(value)
            else:
                values[name] = _read(_BY_NAME[name], value, place)
        return cls(**values, kafka=tuple(kafka.items()))

    def kafka_settings(self) -> KafkaSettings:
        """For the client. Raises ConfigurationError for settings that contradict each other."""
        given = {name.replace("_", "."): getattr(self, name) for name in _KAFKA_FIELDS}
        own = {name: value for name, value in given.items() if value is not None}
        return KafkaSettings.of({**dict(self.kafka), **own, "bootstrap.servers": self.brokers})

    def applied_to(self, app: AppSettings) -> AppSettings:
        """The app's settings with those replaced that were given for this run."""
        shared = {one.name for one in fields(AppSettings)} & set(_BY_NAME)
        given = {name: getattr(self, name) for name in sorted(shared) if getattr(self, name) is not None}
        if "guarantee" in given and app.commit_interval_ms == DEFAULT_COMMIT_INTERVAL_MS[app.guarantee]:
            given.setdefault("commit_interval_ms", DEFAULT_COMMIT_INTERVAL_MS[given["guarantee"]])
        return replace(app, **given)

    def secrets(self) -> list[str]:
        """Texts that must not be in any log."""
        own = [getattr(self, one.name) for one in fields(self) if one.metadata["secret"]]
        own += (self.gateway_tokens or "").split(",")
        passed = [value for name, value in self.kafka if "password" in name]
        return [secret for secret in (*own, *passed) if secret]

    def __repr__(self) -> str:
        shown = [one for one in fields(self) if one.repr and one.name != "kafka"]
        told = [f"{one.name}={getattr(self, one.name)!r}" for one in shown if getattr(self, one.name) != one.default]
        return f"RunSettings({', '.join([*told, *(f'kafka[{name!r}]' for name, _ in self.kafka)])})"


_BY_NAME: Final[Mapping[str, Field[Any]]] = {one.name: one for one in fields(RunSettings)}

Layer = Iterator[tuple[str, object, str]]
"""Setting (Kafka's own with `kafka.` before them), value as given, and where it was given."""


def setting_names() -> list[str]:
    return [name for name in _BY_NAME if name != "kafka"]


def _read(declared: Field[Any], value: object, place: str) -> Any:
    try:
        return declared.metadata["read"](value)
    except ValueError as error:
        shown = "(not shown)" if declared.metadata["secret"] else repr(value)
        raise SettingsError(f"{place}: expected {error}, got {shown}") from None


def _known(name: str, place: str) -> str:
    """A setting's name as it was written: dashes and a missing unit are understood."""
    plain = name.replace("-", "_").lower()
    for candidate in (plain, f"{plain}_ms"):
        if candidate in _BY_NAME and candidate != "kafka":
            return candidate
    otherwise = f". Settings: {', '.join(setting_names())}"
    raise SettingsError(f"{place}: no setting {name!r}{did_you_mean(plain, setting_names(), otherwise=otherwise)}")


def _from_mapping(given: Mapping[str, object], what: str) -> Layer:
    for name, value in given.items():
        place = f"{what} {name}"
        if name.startswith("kafka."):
            yield name, value, place
        elif name == "kafka" and isinstance(value, Mapping):
            for kafka_name, kafka_value in value.items():
                yield f"kafka.{kafka_name}", kafka_value, f"{place}.{kafka_name}"
        else:
            yield _known(name, what), value, place


def _from_file(file: Path) -> Layer:
    try:
        content = file.read_text(encoding="utf-8")
        given = tomllib.loads(content)
    except (OSError, UnicodeDecodeError) as error:
        raise SettingsError(f"settings file {str(file)!r} cannot be read: {error}") from error
    except tomllib.TOMLDecodeError as error:
        raise SettingsError(f"{file}: not TOML: {error}") from error
    for name, value in given.items():
        place = f"{file}:{_line_of(content, name)}"
        if name == "kafka":
            if not isinstance(value, Mapping):
                raise SettingsError(f"{place}: [kafka] is a table of Kafka's settings, got {value!r}")
            for kafka_name, kafka_value in _flat(value):
                yield f"kafka.{kafka_name}", kafka_value, f"{file}:{_line_of(content, kafka_name)}"
        else:
            yield _known(name, place), value, f"{place}: {name}"


def _flat(table: Mapping[str, object], before: str = "") -> Iterator[tuple[str, object]]:
    """TOML reads `session.timeout.ms = 1` as tables in tables."""
    for name, value in table.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{before}{name}.")
        else:
            yield f"{before}{name}", value


def _line_of(content: str, name: str) -> int:
    lines = enumerate(content.splitlines(), 1)
    return next((number for number, line in lines if line.lstrip(' "[').startswith(name)), 1)


def _from_environment(variables: Mapping[str, str]) -> Layer:
    for variable in sorted(name for name in variables if name.startswith(PREFIX) and not name.startswith(NOT_OURS)):
        value = variables[variable]
        if variable.startswith(KAFKA_PREFIX):
            yield f"kafka.{variable.removeprefix(KAFKA_PREFIX).lower().replace('_', '.')}", value, variable
            continue
        name = variable.removeprefix(PREFIX).lower()
        known = [f"{PREFIX}{one.upper()}" for one in setting_names()]
        if variable not in known and f"{variable}_MS" not in known:
            otherwise = "; docs/reference/settings.md lists those there are"
            raise SettingsError(
                f"environment: no setting {variable}{did_you_mean(variable, known, otherwise=otherwise)}"
            )
        yield _known(name, variable), value, variable


def settings_table() -> str:
    """The table of docs/reference/settings.md."""
    lines = ["| setting | environment | default | what it is |", "|---|---|---|---|"]
    for one in fields(RunSettings):
        variable = f"{KAFKA_PREFIX}<NAME>" if one.name == "kafka" else f"{PREFIX}{one.name.upper()}"
        default = (
            ""
            if one.default in {None, ()}
            else f"`{str(one.default).lower() if isinstance(one.default, bool) else one.default}`"
        )
        name = "`[kafka]`" if one.name == "kafka" else f"`{one.name}`"
        lines.append(f"| {name} | `{variable}` | {default} | {one.metadata['help']} |")
    return "\n".join(lines)
