"""The secured mode: SASL_SSL with SCRAM-SHA-512 for clients, mutual TLS between nodes, ACLs for everybody else.

    secrets/            mode 0700, made at the first start
      ca.pem            the certificate authority clients must trust
      ca.p12, node.p12  its key and the nodes' key, by the JDK's keytool
      store-password    of both
      admin.properties, guest.properties      client settings by Kafka's names, with the password

`admin` may do everything; `guest` may do nothing until an ACL says so. Nodes know each other by the certificate
CN=broker, which only they hold. Passwords are in files of mode 0600 and never on a command line, where every user of
the machine could read them: tools take them from files.
"""

from __future__ import annotations

import os
import secrets
import subprocess
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from .config import HOST, Ports
from .errors import BrokerFailed, DirectoryUnusable

ADMIN = "admin"
GUEST = "guest"
MECHANISM = "SCRAM-SHA-512"
VALID_DAYS = 3650
KEYTOOL_TIMEOUT_S = 60
KEY = ("-keyalg", "EC", "-groupname", "secp256r1", "-validity", str(VALID_DAYS))


def write_private(path: Path, text: str) -> None:
    """Writes a file that only its owner may read, from its first byte on."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        os.fchmod(descriptor, 0o600)
        file.write(text)


class Secrets:
    """The keys and passwords of one secured cluster, in its folder."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory / "secrets"

    def __repr__(self) -> str:
        return f"Secrets({self.directory})"

    @property
    def scram_arguments(self) -> Path:
        """A file of arguments by which Kafka's StorageTool learns the passwords; removed after use."""
        return self.directory / "scram.arguments"

    def ensure(self, launcher: str) -> None:
        """Makes what is missing; an authority once made stays, so that clients need not be told again."""
        if (self.directory / "complete").exists():
            return
        self.directory.mkdir(mode=0o700, exist_ok=True)
        for leftover in self.directory.glob("*.p12"):
            leftover.unlink()
        write_private(self.directory / "store-password", secrets.token_urlsafe(24))
        self._make_certificates(launcher)
        for user in (ADMIN, GUEST):
            settings = self._client_settings(user, secrets.token_urlsafe(24))
            write_private(self.directory / f"{user}.properties", "".join(f"{k}={v}\n" for k, v in settings.items()))
        (self.directory / "complete").touch()

    def client(self, user: str) -> Mapping[str, str]:
        """What a client of this user sets, by Kafka's names. Raises `DirectoryUnusable` where it was lost."""
        path = self.directory / f"{user}.properties"
        try:
            lines = path.read_text().splitlines()
        except OSError as error:
            raise DirectoryUnusable(f"the settings of {user!r} in {path} cannot be read: {error.strerror}") from error
        return dict(line.split("=", 1) for line in lines)

    def write_scram_arguments(self) -> None:
        """Leaves the file `scram_arguments` for the time of one formatting."""
        flags = []
        for user in (ADMIN, GUEST):
            flags += ["--add-scram", f"{MECHANISM}=[name={user},password={self.client(user)['sasl.password']}]"]
        write_private(self.scram_arguments, "\n".join(flags) + "\n")

    def node_settings(self, ports: Ports) -> dict[str, str]:
        """What the server.properties of a node says beside, or in place of, the plain ones."""
        password = (self.directory / "store-password").read_text()
        listeners = f"CLIENT://{HOST}:{ports.client},INTERNAL://{HOST}:{ports.internal}"
        scram = "org.apache.kafka.common.security.scram.ScramLoginModule required;"
        return {
            "listeners": f"{listeners},CONTROLLER://{HOST}:{ports.controller}",
            "advertised.listeners": listeners,
            "listener.security.protocol.map": "CLIENT:SASL_SSL,INTERNAL:SSL,CONTROLLER:SSL",
            "inter.broker.listener.name": "INTERNAL",
            "sasl.enabled.mechanisms": MECHANISM,
            "listener.name.client.scram-sha-512.sasl.jaas.config": scram,
            "listener.name.internal.ssl.client.auth": "required",
            "listener.name.controller.ssl.client.auth": "required",
            "ssl.keystore.type": "PKCS12",
            "ssl.keystore.location": str(self.directory / "node.p12"),
            "ssl.keystore.password": password,
            "ssl.key.password": password,
            "ssl.truststore.type": "PEM",
            "ssl.truststore.location": str(self.directory / "ca.pem"),
            "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
            "allow.everyone.if.no.acl.found": "false",
            "super.users": f"User:CN=broker;User:{ADMIN}",
            "auto.create.topics.enable": "false",
        }

    def _client_settings(self, user: str, password: str) -> dict[str, str]:
        return {
            "security.protocol": "SASL_SSL",
            "sasl.mechanism": MECHANISM,
            "sasl.username": user,
            "sasl.password": password,
            "ssl.ca.location": str(self.directory / "ca.pem"),
        }

    def _make_certificates(self, launcher: str) -> None:
        authority, node = ("-keystore", "ca.p12", "-alias", "ca"), ("-keystore", "node.p12", "-alias", "node")
        signing = ("-ext", "bc:critical=ca:true,pathlen:0", "-ext", "ku:critical=keyCertSign,cRLSign")
        names = ("-ext", f"san=ip:{HOST},dns:localhost", "-ext", "eku=serverAuth,clientAuth")
        reply = ("-validity", str(VALID_DAYS), "-infile", "node.csr", "-rfc", "-outfile", "node.pem")
        rounds: list[list[Sequence[str]]] = [
            [
                ("-genkeypair", *authority, *KEY, "-dname", "CN=millstream local authority", *signing),
                ("-genkeypair", *node, *KEY, "-dname", "CN=broker"),
            ],
            [("-exportcert", *authority, "-rfc", "-file", "ca.pem"), ("-certreq", *node, "-file", "node.csr")],
            [("-gencert", *authority, *names, *reply)],
        ]
        with ThreadPoolExecutor(2) as pool:  # each step is a JVM of half a second
            for steps in rounds:
                list(pool.map(lambda step: self._keytool(launcher, step), steps))
        chain = [(self.directory / name).read_text() for name in ("node.pem", "ca.pem")]
        (self.directory / "chain.pem").write_text("".join(chain))
        self._keytool(launcher, ("-importcert", *node, "-noprompt", "-file", "chain.pem"))
        for made in self.directory.glob("*.p12"):
            made.chmod(0o600)

    def _keytool(self, launcher: str, step: Sequence[str]) -> None:
        """By its main class: a JRE without the launcher `keytool` still has that."""
        done = subprocess.run(
            [
                *(launcher, "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC"),
                *("-m", "java.base/sun.security.tools.keytool.Main", *step),
                *("-storetype", "PKCS12", "-storepass:file", "store-password"),
            ],
            cwd=self.directory,
            capture_output=True,
            text=True,
            timeout=KEYTOOL_TIMEOUT_S,
            check=False,
        )
        if done.returncode:
            raise BrokerFailed(f"keytool {step[0]} failed in {self.directory}:\n{done.stdout}{done.stderr}")
