"""Every bad input of the enhance command: exit code, what the message says, and that nothing is lost."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import struct
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from enhancer_bags import (
    DEPTH_TOPICS,
    STORAGES,
    child_environment,
    depth_images,
    provenance,
    run_enhance,
    write_episode,
)
from realdiff_core.bag import BagWriter
from realdiff_core.provenance import BagProvenance, DepthKind
from realdiff_enhancer.commands.enhance import main

from realdiff_core import topics


def files(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in sorted(folder.rglob("*")) if file.is_file()}


def check_refused(capsys: pytest.CaptureFixture[str], folder: Path, arguments: list[object], *expected: str) -> str:
    """Run the command in this process; it must fail with a message, and leave the folder as it was."""
    before = files(folder)
    from realdiff_core.cli import run_command

    with pytest.raises(SystemExit) as error:
        run_command(lambda: main([str(argument) for argument in arguments]))
    message = capsys.readouterr().err
    assert error.value.code == 2
    assert "Traceback" not in message
    for text in expected:
        assert text in message, message
    assert files(folder) == before
    return message


def storage_file(bag: Path) -> Path:
    return next(file for file in bag.iterdir() if file.suffix in (".mcap", ".db3"))


def options(tmp_path: Path, *more: object) -> list[object]:
    return [tmp_path / "in", "-o", tmp_path / "out", "--model", "disparity", *more]


@pytest.mark.parametrize("storage", STORAGES)
def test_truncated_bag(tmp_path: Path, capsys: pytest.CaptureFixture[str], storage: str) -> None:
    bag = write_episode(tmp_path / "in", storage)
    file = storage_file(bag)
    with file.open("r+b") as stream:
        stream.truncate(file.stat().st_size // 2)
    check_refused(capsys, tmp_path, options(tmp_path), "in", "truncated or damaged", "next step:")


def test_empty_bag(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with BagWriter(tmp_path / "in") as writer:
        writer.add_topic(topics.DEPTH_IMAGE, "sensor_msgs/msg/Image")
    check_refused(capsys, tmp_path, options(tmp_path), "bag is empty", str(tmp_path / "in"), "next step:")


@pytest.mark.parametrize("storage", STORAGES)
def test_empty_storage_file(tmp_path: Path, capsys: pytest.CaptureFixture[str], storage: str) -> None:
    file = storage_file(write_episode(tmp_path / "in", storage, frames=1))
    file.write_bytes(b"")
    check_refused(capsys, tmp_path, options(tmp_path), "empty", file.name, "next step:")


def test_unknown_storage(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    metadata = write_episode(tmp_path / "in", frames=1) / "metadata.yaml"
    metadata.write_text(metadata.read_text().replace("storage_identifier: mcap", "storage_identifier: rocksdb"))
    check_refused(
        capsys, tmp_path, options(tmp_path), "unknown bag storage", "rocksdb", "mcap or sqlite3", "next step:"
    )


def test_missing_metadata(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (write_episode(tmp_path / "in", frames=1) / "metadata.yaml").unlink()
    check_refused(capsys, tmp_path, options(tmp_path), "metadata.yaml is missing", "reindex")


def test_missing_input(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    check_refused(capsys, tmp_path, options(tmp_path), "input doesn't exist", str(tmp_path / "in"))


@pytest.mark.parametrize("storage", STORAGES)
def test_missing_camera_info(tmp_path: Path, capsys: pytest.CaptureFixture[str], storage: str) -> None:
    write_episode(tmp_path / "in", storage, without=(topics.DEPTH_INFO,), frames=2)
    check_refused(capsys, tmp_path, options(tmp_path), "camera_info", topics.DEPTH_INFO, f"record {topics.DEPTH_INFO}")


def _colour_as_depth(image: Any) -> None:
    image.encoding, image.step = "mono8", image.width
    image.data = image.data[: image.width * image.height]


def _other_encoding(image: Any) -> None:
    image.encoding, image.step = "32FC1", image.width * 4
    image.data = np.full(image.width * image.height, 1.0, np.float32).view(np.uint8)


def _other_size(image: Any) -> None:
    image.height //= 2
    image.data = image.data[: image.height * image.step]


def _short_data(image: Any) -> None:
    image.data = image.data[:-10]


def _small_step(image: Any) -> None:
    image.step -= 2


def _negative_stamp(image: Any) -> None:
    image.header.stamp.sec = -1


def _backward_stamp(image: Any) -> None:
    image.header.stamp.sec = 0


@pytest.mark.parametrize(
    ("edit", "expected"),
    [
        (_colour_as_depth, ("isn't depth", "16UC1 or 32FC1", "mono8")),
        (_other_encoding, ("differ in size or encoding", "64×48 16UC1", "64×48 32FC1")),
        (_other_size, ("differ in size or encoding", "64×48 16UC1", "64×24 16UC1")),
        (_short_data, ("wrong length", "6144 bytes", "6134 bytes")),
        (_small_step, ("longer than their step", "step 126")),
        (_negative_stamp, ("header stamp is negative",)),
        (_backward_stamp, ("header stamps of a topic go backwards",)),
    ],
)
@pytest.mark.parametrize("storage", STORAGES)
def test_wrong_image_in_the_middle(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], storage: str, edit: Any, expected: tuple[str, ...]
) -> None:
    def change(topic: str, index: int, image: Any) -> None:
        if topic == topics.DEPTH_IMAGE and index == 4:
            edit(image)

    write_episode(tmp_path / "in", storage, frames=6, edit=change)
    check_refused(capsys, tmp_path, options(tmp_path), topics.DEPTH_IMAGE, str(tmp_path / "in"), *expected)


def test_size_that_camera_info_does_not_have(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def halve(topic: str, index: int, image: Any) -> None:
        if topic == topics.DEPTH_IMAGE:
            _other_size(image)

    write_episode(tmp_path / "in", frames=2, edit=halve)
    check_refused(
        capsys, tmp_path, options(tmp_path), "camera_info differ in size", "64×48", "64×24", topics.DEPTH_INFO
    )


def test_negative_record_stamp(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import apsw

    bag = write_episode(tmp_path / "in", "sqlite3", frames=2)
    database = apsw.Connection(str(storage_file(bag)))
    database.execute("UPDATE messages SET timestamp = -5 WHERE id = 1")
    database.close()
    check_refused(capsys, tmp_path, options(tmp_path), "record stamp is negative", "-5 ns")


def test_unsorted_record_stamps(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import apsw

    bag = write_episode(tmp_path / "in", "sqlite3", frames=4)
    database = apsw.Connection(str(storage_file(bag)))
    database.execute("UPDATE messages SET timestamp = timestamp - 50000000 WHERE id = (SELECT max(id) FROM messages)")
    database.close()
    check_refused(capsys, tmp_path, options(tmp_path), "go backwards", topics.ALIGNED_DEPTH_IMAGE)


def test_topic_absent(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_episode(tmp_path / "in", frames=1)
    arguments = options(tmp_path, "--topics", "/depth")
    check_refused(capsys, tmp_path, arguments, "topic is absent", "/depth", topics.DEPTH_IMAGE)


def test_topic_without_depth(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_episode(tmp_path / "in", frames=1)
    arguments = options(tmp_path, "--topics", topics.COLOR_IMAGE)
    check_refused(capsys, tmp_path, arguments, "doesn't carry depth", "rgb8", topics.DEPTH_IMAGE)


def test_bag_without_depth(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_episode(tmp_path / "in", frames=1, without=DEPTH_TOPICS)
    check_refused(capsys, tmp_path, options(tmp_path), "no depth topic", "record the depth images")


@pytest.mark.parametrize("record", [provenance(DepthKind.ENHANCED), provenance(DepthKind.SENSOR)])
def test_depth_that_is_noisy_already(tmp_path: Path, capsys: pytest.CaptureFixture[str], record: BagProvenance) -> None:
    write_episode(tmp_path / "in", record=record, frames=1)
    kind = record.depth[topics.DEPTH_IMAGE]
    check_refused(capsys, tmp_path, options(tmp_path), "must not be enhanced", f"provenance {kind}", "override")


def test_depth_of_unknown_origin(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_episode(tmp_path / "in", record=BagProvenance(depth={}, source="imported"), frames=1)
    check_refused(capsys, tmp_path, options(tmp_path), "nothing is known about its origin", "override")


@pytest.mark.parametrize("draws", [1, 2])
def test_output_exists(tmp_path: Path, capsys: pytest.CaptureFixture[str], draws: int) -> None:
    write_episode(tmp_path / "in", frames=1)
    taken = tmp_path / "out" if draws == 1 else tmp_path / "out" / "draw_001"
    shutil.copytree(tmp_path / "in", taken)
    arguments = options(tmp_path, "--draws", draws)
    check_refused(capsys, tmp_path, arguments, "output exists already", str(taken), "--overwrite")


def test_overwrite_spares_what_is_not_a_bag(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_episode(tmp_path / "in", frames=1)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.tex").write_text("years of work")
    check_refused(capsys, tmp_path, options(tmp_path, "--overwrite"), "holds something else", str(tmp_path / "out"))


def test_failed_overwrite_keeps_the_old_output(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def change(topic: str, index: int, image: Any) -> None:
        if topic == topics.DEPTH_IMAGE and index == 4:
            _short_data(image)

    write_episode(tmp_path / "in", frames=6, edit=change)
    write_episode(tmp_path / "out", frames=2)
    check_refused(capsys, tmp_path, options(tmp_path, "--overwrite"), "wrong length")


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        (("--seed", -1), "seed is out of range"),
        (("--draws", 0), "draws is out of range"),
        (("--batch", 0), "batch is out of range"),
        (("--profile", "nikon"), "cameras/nikon.yaml"),
        (("--resume", "--overwrite"), "choose one"),
    ],
)
def test_wrong_option(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], more: tuple[object, ...], expected: str
) -> None:
    write_episode(tmp_path / "in", frames=1)
    check_refused(capsys, tmp_path, options(tmp_path, *more), expected)


def test_wrong_model_parameter(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_episode(tmp_path / "in", frames=1)
    (tmp_path / "own.yaml").write_text("reference_fx_px: 615\nsigma_px: -1\n")
    arguments = [tmp_path / "in", "-o", tmp_path / "out", "--model", "gaussian", "--weights", tmp_path / "own.yaml"]
    check_refused(capsys, tmp_path, arguments, "own.yaml", "sigma_px", "-1")


def test_message_that_is_not_cdr(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    import apsw

    bag = write_episode(tmp_path / "in", "sqlite3", frames=4)
    database = apsw.Connection(str(storage_file(bag)))
    row = "SELECT max(id) FROM messages"
    database.execute(f"UPDATE messages SET data = ? WHERE id = ({row})", (struct.pack("<I", 0x100) + b"\1\2\3",))
    database.close()
    check_refused(capsys, tmp_path, options(tmp_path), "readable image", topics.ALIGNED_DEPTH_IMAGE)


def _small_files() -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, 300_000))


@pytest.mark.parametrize("storage", STORAGES)
def test_full_disk(tmp_path: Path, storage: str) -> None:
    """A limit on the size of files stands in for a full disk: the same system calls fail."""
    source = write_episode(tmp_path / "in", storage, frames=60)
    before = files(tmp_path)
    command = [sys.executable, "-m", "realdiff_enhancer.commands.enhance", str(source), "-o", str(tmp_path / "out")]
    result = subprocess.run(
        [*command, "--model", "gaussian"],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env=child_environment(),
        preexec_fn=_small_files,
    )
    assert result.returncode == 2, result.stderr
    # SQLite doesn't tell a file that may not grow from any other failure of the disk.
    assert {"mcap": "disk is full", "sqlite3": "disk I/O error"}[storage] in result.stderr
    assert "next step:" in result.stderr and str(tmp_path) in result.stderr
    assert "Traceback" not in result.stderr
    left = files(tmp_path)
    assert {name: left[name] for name in before} == before
    assert not (tmp_path / "out").exists()
    finished = run_enhance(source, "-o", tmp_path / "out", "--model", "gaussian", "--resume")
    assert finished.returncode == 0, finished.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "out"]


@pytest.mark.parametrize("storage", STORAGES)
def test_killed_mid_write_and_continued(tmp_path: Path, storage: str) -> None:
    source = write_episode(tmp_path / "in", storage, frames=60, size=(240, 320))
    arguments = [source, "-o", tmp_path / "out", "--model", "disparity", "--batch", 2]
    command = [sys.executable, "-m", "realdiff_enhancer.commands.enhance", *map(str, arguments)]
    process = subprocess.Popen(command, env=child_environment(), stderr=subprocess.PIPE, start_new_session=True)
    journal = tmp_path / ".out.job" / "frames.bin"
    deadline = time.monotonic() + 60
    while not (journal.exists() and journal.stat().st_size > 1_000_000):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    assert not (tmp_path / "out").exists()

    without = run_enhance(*arguments)
    assert without.returncode == 2 and "--resume" in without.stderr and journal.exists()
    finished = run_enhance(*arguments, "--resume")
    assert finished.returncode == 0, finished.stderr
    assert "from the interrupted run" in finished.stdout
    fresh = run_enhance(source, "-o", tmp_path / "fresh" / "out", "--model", "disparity")
    assert fresh.returncode == 0, fresh.stderr
    assert files(tmp_path / "out") == files(tmp_path / "fresh" / "out")
    assert not np.array_equal(depth_images(source), depth_images(tmp_path / "out"))
    # Nothing of the killed process is left: no journal, no half bag.
    assert sorted(path.name for path in tmp_path.iterdir()) == ["fresh", "in", "out"]


def test_interrupt_exits_with_130(tmp_path: Path) -> None:
    source = write_episode(tmp_path / "in", frames=100, size=(240, 320))
    command = [sys.executable, "-m", "realdiff_enhancer.commands.enhance", str(source), "-o", str(tmp_path / "out")]
    process = subprocess.Popen(
        [*command, "--model", "disparity"], env=child_environment(), stderr=subprocess.PIPE, text=True
    )
    journal = tmp_path / ".out.job" / "frames.bin"
    deadline = time.monotonic() + 60
    while not (journal.exists() and journal.stat().st_size > 100_000):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, message = process.communicate(timeout=60)
    assert process.returncode == 130 and message.strip() == "error: interrupted"
    assert not (tmp_path / "out").exists() and journal.exists()


def test_help_is_quick_and_has_examples() -> None:
    result = run_enhance("--help")
    assert result.returncode == 0
    for text in ("--draws K", "--override-provenance", "examples:", "disparity"):
        assert text in result.stdout
    loaded = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "realdiff_enhancer.commands.enhance", "--help"],
        capture_output=True,
        text=True,
        check=True,
        env=child_environment(),
    ).stderr
    for heavy in ("torch", "cv2", "scipy", "rosbags"):
        assert f" {heavy}\n" not in loaded
