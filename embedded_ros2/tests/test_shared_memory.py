"""Orphaned shared memory is freed; what a living process holds stays."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from embedded_ros2.shared_memory import FOLDER, remove_orphans

_PARTICIPANT = (
    "import rclpy, time; rclpy.init(); node = rclpy.create_node('holder'); print('ready', flush=True); time.sleep(60)"
)


def _segment(folder: Path, name: str, age_s: float = 60.0) -> Path:
    path = folder / f"fastrtps_{name}"
    path.write_bytes(b"x" * 1000)
    lock = folder / f"fastrtps_{name}_el"
    lock.touch()
    for file in (path, lock):
        os.utime(file, (time.time() - age_s,) * 2)
    return path


def test_only_old_unlocked_segments_go(tmp_path: Path) -> None:
    orphan, held, young = (_segment(tmp_path, name, age) for name, age in (("a", 60.0), ("b", 60.0), ("c", 0.0)))
    mutex = tmp_path / "sem.fastrtps_a_mutex"
    mutex.touch()
    other = tmp_path / "lttng-ust"
    other.touch()
    with Path(f"{held}_el").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert remove_orphans(tmp_path) == 1000
    assert not orphan.exists() and not mutex.exists() and not Path(f"{orphan}_el").exists()
    assert held.exists() and young.exists() and other.exists()


@pytest.mark.graph
@pytest.mark.alone  # sees all segments of this machine, also those that other tests are just making
@pytest.mark.skipif(not FOLDER.is_dir(), reason="no shared memory under /dev/shm")
def test_a_killed_participant_is_an_orphan_and_a_living_one_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    before = set(FOLDER.glob("fastrtps_*_el"))
    with subprocess.Popen([sys.executable, "-c", _PARTICIPANT], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
        mine = {path for path in set(FOLDER.glob("fastrtps_*_el")) - before if _owner_is(path, process.pid)}
        assert mine, "the participant has no segment"
        monkeypatch.setattr("embedded_ros2.shared_memory._STARTING_S", -1.0)
        remove_orphans()
        assert all(path.exists() for path in mine)
        process.kill()
    remove_orphans()
    assert not any(path.exists() for path in mine)


def _owner_is(lock: Path, pid: int) -> bool:
    """Tells whether a process has a file open."""
    return any(os.path.realpath(link) == str(lock) for link in Path(f"/proc/{pid}/fd").iterdir())
