"""Settings of a gateway. Every limit has its unit last in its name."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, field, fields
from typing import Final, Self

from ..errors import SettingsError
from ..settings import RunSettings

LOCAL_NAMES: Final = frozenset({"localhost"})
DEFAULT_PORT: Final = 8080


@dataclass(frozen=True, slots=True)
class GatewaySettings:
    """Raises SettingsError: listening to other machines without a token is refused."""

    host: str = "127.0.0.1"
    port: int = DEFAULT_PORT
    """0: a free one."""
    tokens: tuple[str, ...] = field(default=(), repr=False)
    """Who may ask: `Authorization: Bearer <one of them>`. None: whoever reaches it, which must be this machine alone."""
    timeout_ms: int = 60_000
    """For a request, from its head to its answer."""
    body_bytes_max: int = 32 << 20
    """A document of 20 MiB is 27 MiB in base64."""
    concurrency_max: int = 256
    """Requests at a time; one more is answered 503."""
    streams_max: int = 256
    """Standing questions that are listened to at a time."""
    requests_per_minute_max: int = 6_000
    """Of one token; one more is answered 429."""
    burst_requests_max: int = 600
    """Of one token, at once."""
    listed_documents_max: int = 100_000
    """In a list that has no pages (Pathway's)."""
    late_answers_max: int = 1_000
    """Questions that timed out whose answers are kept when they come; one more, and the oldest is forgotten."""
    late_answers_bytes_max: int = 64 << 20
    """Of all of them together."""
    late_answers_age_max_ms: int = 3_600_000
    """Since the question timed out."""
    ping_interval_ms: int = 15_000
    """Of a stream with nothing new: so both sides see that the other is there."""
    cors_origins: tuple[str, ...] = ()
    """Pages of these origins may ask, as in ("https://chat.example.com",). Default: none."""

    @classmethod
    def of(cls, run: RunSettings) -> Self:
        """Those of a run that begin with `gateway_`. Raises SettingsError."""
        own = {one.name for one in fields(cls)} - {
            "port",
            "tokens",
            "cors_origins",
            "listed_documents_max",
            "ping_interval_ms",
        }
        given = {name: getattr(run, f"gateway_{name}") for name in own}
        return cls(
            **given,
            port=DEFAULT_PORT if run.gateway_port is None else run.gateway_port,
            tokens=_listed(run.gateway_tokens),
            cors_origins=_listed(run.gateway_cors_origins),
        )

    def __post_init__(self) -> None:
        for one in fields(self):
            value = getattr(self, one.name)
            if one.name.endswith(("_max", "_ms")) and value < 1:
                raise SettingsError(f"gateway {one.name}: expected a whole number from 1 up, got {value}")
        if any(not token or not token.isascii() or " " in token for token in self.tokens):
            raise SettingsError(
                "gateway tokens: expected ASCII without spaces, and one of them is not (it is not shown)"
            )
        if not self.tokens and not self.is_local:
            raise SettingsError(
                f"gateway host {self.host!r}: other machines could ask without a token; "
                "set MILLSTREAM_GATEWAY_TOKENS, or listen on 127.0.0.1"
            )

    @property
    def is_local(self) -> bool:
        """Whether only this machine reaches it."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host in LOCAL_NAMES


def _listed(text: str | None) -> tuple[str, ...]:
    return tuple(one.strip() for one in (text or "").split(",") if one.strip())
