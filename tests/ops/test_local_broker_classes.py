"""The archive of loaded classes is whole or absent, and a useless one does no harm."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from millstream.ops.local_broker import LocalBroker
from millstream.ops.local_broker.classes import ClassArchive
from millstream.ops.local_broker.jars import KAFKA_VERSION, cache_directory, kafka_jars
from millstream.ops.local_broker.java import Java, find_java

OLD, NEW = Java(Path("java"), 17, "old"), Java(Path("java"), 25, "new")


@pytest.mark.parametrize(
    ("java", "write", "read"), [(OLD, "ArchiveClassesAtExit", "SharedArchiveFile"), (NEW, "AOTCacheOutput", "AOTCache")]
)
def test_it_is_written_once_and_then_read(java: Java, write: str, read: str, tmp_path: Path) -> None:
    archive, scratch = ClassArchive(tmp_path, java), tmp_path / "node-1" / "classes.archive"
    scratch.parent.mkdir()
    assert archive.flags(None) == []
    assert archive.flags(scratch) == [f"-XX:{write}={scratch}"]
    scratch.write_bytes(b"classes")
    archive.keep(scratch)
    kept = tmp_path / f"classes-{java.identity}.archive"
    assert archive.flags(scratch) == archive.flags(None) == [f"-XX:{read}={kept}"]
    assert (kept.read_bytes(), scratch.exists()) == (b"classes", False)


def test_what_another_process_kept_first_stays(tmp_path: Path) -> None:
    scratch = tmp_path / "scratch"
    for content in (b"first", b"second"):
        scratch.write_bytes(content)
        ClassArchive(tmp_path, OLD).keep(scratch)
    assert (tmp_path / "classes-old.archive").read_bytes() == b"first"


@pytest.mark.kafka
def test_kafka_starts_in_spite_of_a_damaged_archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kafka_jars()
    for part in (f"kafka-{KAFKA_VERSION}", f"formatted-{KAFKA_VERSION}"):
        if (cache_directory() / part).exists():
            shutil.copytree(cache_directory() / part, tmp_path / part)
    (tmp_path / f"classes-{find_java().identity}.archive").write_bytes(b"no archive" * 1000)
    monkeypatch.setenv("MILLSTREAM_CACHE", str(tmp_path))
    with LocalBroker() as broker:
        assert broker.pids() != [None]
