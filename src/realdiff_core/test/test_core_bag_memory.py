"""Bags stream: memory doesn't grow with the bag."""

import json
import subprocess
import sys

import pytest
from core_bags import STORAGES, subprocess_environment

# A process of its own for each size: the peak counts for the whole life of a process.
COPY = """
import json, re, shutil, sys
from pathlib import Path
from realdiff_core.bag import BagReader, BagWriter

def peak_kib():
    # Not ru_maxrss: a new process starts with its parent's, here that of the whole test run.
    return int(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1])

folder, storage, megabytes = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
frame = bytes(range(256)) * 4000
with BagWriter(folder / "in", storage) as writer:
    writer.add_topic("/depth", "sensor_msgs/msg/Image")
    writer.add_topic("/joint_states", "sensor_msgs/msg/JointState")
    for index in range(megabytes):
        writer.write("/depth", index * 1000, frame)
        for tick in range(30):
            writer.write("/joint_states", index * 1000 + tick, frame[:300])
written = peak_kib()
count = 0
with BagReader(folder / "in") as reader, BagWriter(folder / "out", storage) as writer:
    for info in reader.topics.values():
        writer.copy_topic(info)
    for raw in reader.messages():
        writer.write(*raw)
        count += 1
peak = peak_kib()
shutil.rmtree(folder / "in")
shutil.rmtree(folder / "out")
print(json.dumps({"written": written, "peak": peak, "count": count}))
"""


def peak_mib(tmp_path, storage: str, megabytes: int) -> float:
    result = subprocess.run(
        [sys.executable, "-c", COPY, str(tmp_path), storage, str(megabytes)],
        capture_output=True,
        text=True,
        env=subprocess_environment(),
        check=True,
    )
    answer = json.loads(result.stdout)
    assert answer["count"] == megabytes * 31
    return answer["peak"] / 1024


def check_growth(tmp_path, storage: str, small: int, large: int) -> None:
    first, second = peak_mib(tmp_path, storage, small), peak_mib(tmp_path, storage, large)
    # What grows is the index. At 5 MiB a GiB a bag of 50 GiB still fits into 500 MiB; 5 MiB are the allocator's noise.
    assert second - first < 5 + 5 * (large - small) / 1024, f"{first:.0f} MiB → {second:.0f} MiB"
    assert first + 5 * 50 < 500


@pytest.mark.parametrize("storage", STORAGES)
def test_memory_does_not_grow_with_the_bag(tmp_path, storage):
    check_growth(tmp_path, storage, 40, 200)


@pytest.mark.slow
@pytest.mark.parametrize("storage", STORAGES)
def test_memory_does_not_grow_with_a_large_bag(tmp_path, storage):
    check_growth(tmp_path, storage, 100, 1500)
