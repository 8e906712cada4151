"""A backup comes from outside: nothing in it is believed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from millstream.ops.backup.manifest import MANIFEST, manifest_of
from millstream.ops.backup.place import Place
from millstream.ops.errors import BackupError
from tests.ops.backup_run import backup_of_50_clicks, cluster, restored


@pytest.fixture
async def backup(tmp_path: Path) -> Path:
    """The folder of a backup after 50 clicks."""
    return await backup_of_50_clicks(tmp_path / "backup")


def _without(name: str) -> Callable[[dict[str, Any]], None]:
    return lambda told: told.pop(name)


def _file(**changes: Any) -> Callable[[dict[str, Any]], None]:
    return lambda told: told["files"][0].update(changes)


HOSTILE: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "a path out of the folder": (_file(path="../../etc/passwd"), "is not one of topic"),
    "an absolute path": (_file(path="/etc/passwd"), "is not one of topic"),
    "a path with a hidden step": (_file(path="shop-by_page-changelog/../0-0.arrow"), "is not one of topic"),
    "another topic's path": (_file(path="other/0-0.arrow"), "is not one of topic"),
    "a topic of others": (
        lambda told: told["topics"].append({"name": "payments", "partitions": 1}),
        "'payments' is no",
    ),
    "another app's topic": (
        lambda told: told["topics"].append({"name": "bank-w-changelog", "partitions": 1}),
        "'bank-w-changelog' is no changelog and no repartition topic of app 'shop'",
    ),
    "a topic named as a path": (
        lambda told: told["topics"].append({"name": "shop-/../-changelog", "partitions": 1}),
        "is no changelog",
    ),
    "too many partitions": (lambda told: told["topics"][0].update(partitions=10**9), "is no number from 0 to 10000"),
    "a size that is none": (_file(bytes=-1), "-1 is no number"),
    "a size that fills the memory": (_file(bytes=2**40), "is no number from 0 to"),
    "a truth for a number": (_file(records=True), "True is no number"),
    "a checksum that is none": (_file(sha256="0" * 63), "is no SHA-256"),
    "a partition that is not there": (_file(partition=7), "is not one of topic"),
    "the same file twice": (lambda told: told["files"].append(told["files"][0]), "is there twice"),
    "an offset of an unknown topic": (lambda told: told["offsets"][0].update(topic="bank"), "an offset of bank-0"),
    "a negative offset": (lambda told: told["offsets"][0].update(offset=-5), "-5 is no number"),
    "an app that is a path": (lambda told: told.update(app="../shop"), "app '../shop'"),
    "no files": (_without("files"), "'files' is missing"),
    "files that are a text": (lambda told: told.update(files="none"), "was not written by millstream backup"),
    "a later format": (lambda told: told.update(format=2), "format 2, this version reads 1"),
    "a store of a later format": (lambda told: told["stores"]["by_page"].update(format=2), "newer version"),
}


@pytest.mark.parametrize("how", HOSTILE)
async def test_a_manifest_is_believed_nothing(backup: Path, how: str) -> None:
    change, told = HOSTILE[how]
    manifest = json.loads((backup / MANIFEST).read_text())
    change(manifest)
    with pytest.raises(BackupError) as caught:
        manifest_of(json.dumps(manifest).encode(), "there")
    assert str(caught.value).startswith("there: ")
    assert told in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"\xff", b"[]", b"null", b"{}", b'{"format": 1}', b"1e999"])
def test_what_is_no_manifest_is_told(content: bytes) -> None:
    with pytest.raises(BackupError, match="there: "):
        manifest_of(content, "there")


async def test_a_file_with_a_checksum_that_is_no_table_is_told(backup: Path, tmp_path: Path) -> None:
    told = json.loads((backup / MANIFEST).read_text())
    entry = told["files"][0]
    content = b"no table"
    entry.update(bytes=len(content), sha256=hashlib.sha256(content).hexdigest())
    (backup / entry["path"]).write_bytes(content)
    (backup / MANIFEST).write_text(json.dumps(told))
    with pytest.raises(BackupError, match="cannot be read"):
        await restored(await cluster(60), Place(str(backup)), tmp_path)


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("nosuch://user:secret@host/folder", "nosuch://host/folder cannot be opened"),
        ("memory://nothing-there", "memory://nothing-there: no manifest.json"),
    ],
)
def test_a_place_that_cannot_be_is_told_without_its_password(url: str, told: str) -> None:
    with pytest.raises(BackupError) as caught:
        Place(url).manifest()
    assert str(caught.value).startswith(told)
    assert "secret" not in str(caught.value)
