"""A real Apache Kafka on this machine with nothing installed: for the demo, for tests, for newcomers."""

from .cluster import LocalBroker
from .errors import (
    AlreadyRunning,
    BrokerFailed,
    DirectoryUnusable,
    JarRefused,
    JarsUnavailable,
    JavaMissing,
    LocalBrokerError,
    PortTaken,
)

__all__ = [
    "AlreadyRunning",
    "BrokerFailed",
    "DirectoryUnusable",
    "JarRefused",
    "JarsUnavailable",
    "JavaMissing",
    "LocalBroker",
    "LocalBrokerError",
    "PortTaken",
]
