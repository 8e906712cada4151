"""The name under which a worker is a member of its group."""

from __future__ import annotations

import socket
from dataclasses import replace
from pathlib import Path

from millstream.ops.identity import as_static_member, instance_id_of
from millstream.workers.settings import AppSettings


def test_it_is_the_same_after_a_restart_and_another_for_another_folder_or_host(tmp_path: Path) -> None:
    """However the folder is written."""
    one = instance_id_of(tmp_path / "a", "pod-0")
    assert one == instance_id_of(tmp_path / "b" / ".." / "a", "pod-0")
    assert len({one, instance_id_of(tmp_path / "b", "pod-0"), instance_id_of(tmp_path / "a", "pod-1")}) == 3
    assert one.startswith("pod-0-")


def test_it_is_of_characters_that_kafka_takes(tmp_path: Path) -> None:
    assert instance_id_of(tmp_path, "Müllers Rechner/2").startswith("M-llers-Rechner-2-")
    assert len(instance_id_of(tmp_path, "x" * 1_000)) < 249


def test_who_has_a_name_keeps_it(tmp_path: Path) -> None:
    settings = replace(AppSettings.of("shop"), state_dir=tmp_path)
    assert as_static_member(settings).instance_id == instance_id_of(tmp_path, socket.gethostname())
    assert as_static_member(replace(settings, instance_id="mine")).instance_id == "mine"
