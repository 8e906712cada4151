"""Why a cluster cannot be reached: TCP, TLS or SASL.

The client says "unable to bootstrap" to all three, and that it could be tried again. Here each address is taken through
the steps by hand, and the first that fails is told with what to look at.
"""

from __future__ import annotations

import asyncio
import ssl
import struct

import aiokafka.errors as kafka
from aiokafka.conn import collect_hosts, create_conn

from ..errors import AuthorizationError, BrokerUnavailableError, ConfigurationError, TopicsError
from .settings import KafkaSettings

_STEP_S = 5
_API_VERSIONS = struct.pack(">ihhih", 10, 18, 0, 1, 0)
"""An ApiVersions request of version 0 with an empty client id: what any broker answers on a port without TLS."""


async def why_unreachable(settings: KafkaSettings) -> TopicsError:
    """The error to raise, after a bootstrap that failed. Asks every address; a refusal outweighs silence."""
    found: list[TopicsError] = []
    for host, port, _ in collect_hosts(settings.bootstrap_servers, randomize=False):
        error = await _probe(settings, host, port)
        if isinstance(error, ConfigurationError):
            return error
        found.append(error)
    if len(found) == 1:
        return found[0]
    return BrokerUnavailableError("no broker can be reached: " + "; ".join(str(error) for error in found))


async def _probe(settings: KafkaSettings, host: str, port: int) -> TopicsError:
    where = f"{host}:{port}"
    failed = await _tcp(host, port, where)
    if failed is None and settings.uses_tls:
        failed = await _tls(settings, host, port, where)
    elif failed is None:
        failed = await _speaks_plain(settings, host, port, where)
    if failed is None:
        failed = await _log_in(settings, host, port, where)
    return failed or BrokerUnavailableError(f"{where} answers now, but did not a moment ago; try again")


async def _tcp(host: str, port: int, where: str) -> TopicsError | None:
    try:
        async with asyncio.timeout(_STEP_S):
            _, writer = await asyncio.open_connection(host, port)
    except TimeoutError:
        return BrokerUnavailableError(f"{where}: no TCP connection in {_STEP_S} s; is a firewall in between?")
    except OSError as error:
        return BrokerUnavailableError(
            f"{where}: no TCP connection ({error.strerror or error}); is the broker running, is the address right?"
        )
    writer.close()
    return None


async def _tls(settings: KafkaSettings, host: str, port: int, where: str) -> TopicsError | None:
    try:
        async with asyncio.timeout(_STEP_S):
            _, writer = await asyncio.open_connection(host, port, ssl=settings.ssl_context())
    except ssl.SSLCertVerificationError as error:
        return AuthorizationError(
            f"{where}: its TLS certificate is not trusted ({error.verify_message}); "
            f"set ssl.ca.location to the authority that signed it (now {settings.ssl_ca_location!r})"
        )
    except ssl.SSLError as error:
        return ConfigurationError(
            f"{where}: no TLS handshake ({error.reason or error}); does this port speak TLS at all? "
            f"security.protocol is {settings.security_protocol}"
        )
    except (OSError, TimeoutError) as error:
        return ConfigurationError(
            f"{where}: the TLS handshake was not answered ({error!r}); does this port speak TLS at all? "
            f"security.protocol is {settings.security_protocol}"
        )
    writer.close()
    return None


async def _speaks_plain(settings: KafkaSettings, host: str, port: int, where: str) -> TopicsError | None:
    try:
        async with asyncio.timeout(_STEP_S):
            reader, writer = await asyncio.open_connection(host, port)
            writer.write(_API_VERSIONS)
            head = await reader.read(1)
    except (OSError, TimeoutError):
        head = b""
    else:
        writer.close()
    if head == b"\x00":
        return None
    what = "it answers in TLS" if head in (b"\x15", b"\x16") else "it hangs up or is silent"
    return ConfigurationError(
        f"{where}: this is no port for security.protocol {settings.security_protocol} ({what}); "
        "is SSL or SASL_SSL meant, is it a Kafka port at all?"
    )


async def _log_in(settings: KafkaSettings, host: str, port: int, where: str) -> TopicsError | None:
    arguments = settings.client_arguments()
    for name in ("bootstrap_servers", "metadata_max_age_ms", "retry_backoff_ms"):
        del arguments[name]
    try:
        async with asyncio.timeout(_STEP_S):
            connection = await create_conn(host, port, **arguments)
    except kafka.UnsupportedSaslMechanismError as error:
        return ConfigurationError(f"{where}: sasl.mechanism {settings.sasl_mechanism} is not offered ({error})")
    except (kafka.SaslAuthenticationFailed, kafka.AuthenticationFailedError) as error:
        return AuthorizationError(
            f"{where}: {settings.sasl_mechanism} refuses user {settings.sasl_username!r} ({error}); "
            "check sasl.username and sasl.password"
        )
    except (kafka.KafkaError, OSError, TimeoutError, ValueError) as error:
        if settings.uses_sasl:
            return AuthorizationError(
                f"{where}: logging in by {settings.sasl_mechanism} as {settings.sasl_username!r} failed ({error!r})"
            )
        return ConfigurationError(
            f"{where}: connected, but it does not answer as Kafka does ({error!r}); "
            f"is a SASL protocol meant? security.protocol is {settings.security_protocol}"
        )
    connection.close()
    return None
