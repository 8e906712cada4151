"""How to reach and use a cluster: a frozen value, given by Kafka's own names.

Not every name of the Java client is here: only what this client does. An unknown name is an error that suggests the
closest, because a misspelt security setting that is ignored is worse than one that is refused.
"""

from __future__ import annotations

import difflib
import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal, cast

from ..errors import ConfigurationError
from ..record_batch import Compression

SecurityProtocol = Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"]
Mechanism = Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"]

_PROTOCOLS: Final = ("PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL")
_MECHANISMS: Final = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")
_COMPRESSIONS: Final = ("none", "lz4", "zstd")


@dataclass(frozen=True, slots=True)
class KafkaSettings:
    """Times in milliseconds, sizes in bytes. Defaults of the timeouts: measured under kills and zombies, see `of`."""

    bootstrap_servers: str
    client_id: str = "millstream"
    security_protocol: SecurityProtocol = "PLAINTEXT"
    sasl_mechanism: Mechanism = "PLAIN"
    sasl_username: str | None = None
    sasl_password: str | None = field(default=None, repr=False)
    ssl_ca_location: str | None = None
    ssl_certificate_location: str | None = None
    ssl_key_location: str | None = None
    ssl_key_password: str | None = field(default=None, repr=False)
    ssl_check_hostname: bool = True

    session_timeout_ms: int = 10_000
    heartbeat_interval_ms: int = 1_000
    rebalance_timeout_ms: int = 10_000
    request_timeout_ms: int = 5_000
    metadata_max_age_ms: int = 30_000
    retry_backoff_ms: int = 20

    fetch_max_wait_ms: int = 100
    fetch_bytes_max: int = 16 << 20
    partition_fetch_bytes_max: int = 1 << 20
    check_crcs: bool = True

    transaction_timeout_ms: int = 60_000
    commit_deadline_ms: int = 15_000
    delivery_timeout_ms: int = 30_000
    compression: Compression = "lz4"
    batch_rows_max: int = 8_000
    batch_bytes_max: int = 1 << 19
    record_bytes_max: int = 1 << 20
    buffer_bytes_max: int = 32 << 20

    @classmethod
    def of(cls, settings: Mapping[str, object]) -> KafkaSettings:
        """From Kafka's names (`bootstrap.servers`, `security.protocol`, `sasl.password`, `ssl.ca.location`, ...).

        `bootstrap.servers` is needed. Numbers may be given as text. Session timeout 10 s, heartbeat 1 s and rebalance
        timeout 10 s are the values under which a killed worker's partitions moved in about a second with static
        membership. Raises ConfigurationError naming the setting, the value and what is possible.
        """
        values: dict[str, Any] = {}
        for name, value in settings.items():
            known = _NAMES.get(name)
            if known is None:
                raise ConfigurationError(f"no Kafka setting {name!r}{_hint(name)}")
            attribute, read = known
            values[attribute] = read(name, value)
        if not values.get("bootstrap_servers"):
            raise ConfigurationError("'bootstrap.servers' is missing: give 'host:port', or several with commas")
        made = cls(**values)
        made.check()
        return made

    def check(self) -> None:
        """Raises ConfigurationError for settings that contradict each other."""
        if self.uses_sasl and (self.sasl_username is None or self.sasl_password is None):
            raise ConfigurationError(
                f"security.protocol {self.security_protocol} needs 'sasl.username' and 'sasl.password'"
            )
        if not self.uses_sasl and self.sasl_username is not None:
            raise ConfigurationError(
                f"'sasl.username' is set, but security.protocol is {self.security_protocol}: "
                "set it to SASL_SSL (or SASL_PLAINTEXT), or leave the user out"
            )
        if self.ssl_key_location and not self.ssl_certificate_location:
            raise ConfigurationError("'ssl.key.location' needs 'ssl.certificate.location' beside it")
        if self.heartbeat_interval_ms * 3 > self.session_timeout_ms:
            raise ConfigurationError(
                f"heartbeat.interval.ms {self.heartbeat_interval_ms} is more than a third of "
                f"session.timeout.ms {self.session_timeout_ms}"
            )

    @property
    def uses_sasl(self) -> bool:
        return self.security_protocol.startswith("SASL")

    @property
    def uses_tls(self) -> bool:
        return self.security_protocol.endswith("SSL")

    def ssl_context(self) -> ssl.SSLContext | None:
        """Raises ConfigurationError naming the file that cannot be read."""
        if not self.uses_tls:
            return None
        try:
            context = ssl.create_default_context(cafile=self.ssl_ca_location)
        except (OSError, ssl.SSLError) as error:
            raise ConfigurationError(f"ssl.ca.location {self.ssl_ca_location!r} cannot be read: {error}") from error
        context.check_hostname = self.ssl_check_hostname
        if self.ssl_certificate_location:
            try:
                context.load_cert_chain(self.ssl_certificate_location, self.ssl_key_location, self.ssl_key_password)
            except (OSError, ssl.SSLError) as error:
                raise ConfigurationError(
                    f"ssl.certificate.location {self.ssl_certificate_location!r} or ssl.key.location "
                    f"{self.ssl_key_location!r} cannot be read: {error}"
                ) from error
        return context

    def client_arguments(self, *, request_timeout_ms: int | None = None) -> dict[str, Any]:
        """As aiokafka's client takes them."""
        return {
            "bootstrap_servers": self.bootstrap_servers,
            "client_id": self.client_id,
            "metadata_max_age_ms": self.metadata_max_age_ms,
            "request_timeout_ms": request_timeout_ms or self.request_timeout_ms,
            "retry_backoff_ms": self.retry_backoff_ms,
            "ssl_context": self.ssl_context(),
            "security_protocol": self.security_protocol,
            "sasl_mechanism": self.sasl_mechanism,
            "sasl_plain_username": self.sasl_username,
            "sasl_plain_password": self.sasl_password,
        }


def _text(name: str, value: object) -> str:
    if isinstance(value, str) and value:
        return value
    if name == "bootstrap.servers" and isinstance(value, list | tuple) and value:
        return ",".join(str(server) for server in value)
    raise ConfigurationError(f"{name!r}: expected text, got {'an empty text' if value == '' else type(value).__name__}")


def _number(name: str, value: object) -> int:
    try:
        number = int(cast("Any", value))
    except (TypeError, ValueError):
        raise ConfigurationError(f"{name!r}: expected a whole number, got {value!r}") from None
    if number < 1:
        raise ConfigurationError(f"{name!r}: must be at least 1, got {number}")
    return number


def _flag(name: str, value: object) -> bool:
    known = {"true": True, "false": False}.get(str(value).lower())
    if known is None:
        raise ConfigurationError(f"{name!r}: expected true or false, got {value!r}")
    return known


def _host_check(name: str, value: object) -> bool:
    if value not in ("https", "none", ""):
        raise ConfigurationError(f"{name!r}: expected 'https' (check the host name) or 'none', got {value!r}")
    return value == "https"


def _one_of(options: tuple[str, ...]) -> Callable[[str, object], str]:
    def read(name: str, value: object) -> str:
        if value not in options:
            raise ConfigurationError(f"{name!r}: expected one of {', '.join(options)}, got {value!r}")
        return str(value)

    return read


_NAMES: Final[Mapping[str, tuple[str, Callable[[str, object], object]]]] = {
    "bootstrap.servers": ("bootstrap_servers", _text),
    "client.id": ("client_id", _text),
    "security.protocol": ("security_protocol", _one_of(_PROTOCOLS)),
    "sasl.mechanism": ("sasl_mechanism", _one_of(_MECHANISMS)),
    "sasl.username": ("sasl_username", _text),
    "sasl.password": ("sasl_password", _text),
    "ssl.ca.location": ("ssl_ca_location", _text),
    "ssl.certificate.location": ("ssl_certificate_location", _text),
    "ssl.key.location": ("ssl_key_location", _text),
    "ssl.key.password": ("ssl_key_password", _text),
    "ssl.endpoint.identification.algorithm": ("ssl_check_hostname", _host_check),
    "session.timeout.ms": ("session_timeout_ms", _number),
    "heartbeat.interval.ms": ("heartbeat_interval_ms", _number),
    "rebalance.timeout.ms": ("rebalance_timeout_ms", _number),
    "request.timeout.ms": ("request_timeout_ms", _number),
    "metadata.max.age.ms": ("metadata_max_age_ms", _number),
    "retry.backoff.ms": ("retry_backoff_ms", _number),
    "fetch.max.wait.ms": ("fetch_max_wait_ms", _number),
    "fetch.max.bytes": ("fetch_bytes_max", _number),
    "max.partition.fetch.bytes": ("partition_fetch_bytes_max", _number),
    "check.crcs": ("check_crcs", _flag),
    "transaction.timeout.ms": ("transaction_timeout_ms", _number),
    "delivery.timeout.ms": ("delivery_timeout_ms", _number),
    "compression.type": ("compression", _one_of(_COMPRESSIONS)),
    "batch.size": ("batch_bytes_max", _number),
    "max.request.size": ("record_bytes_max", _number),
    "buffer.memory": ("buffer_bytes_max", _number),
}


def _hint(name: str) -> str:
    dotted = name.replace("_", ".").lower()
    close = difflib.get_close_matches(dotted, _NAMES, n=1)
    return f"; did you mean {close[0]!r}?" if close else f". There are: {', '.join(_NAMES)}"
