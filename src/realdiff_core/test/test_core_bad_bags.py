"""Bad input: a clear error, and nothing that existed is lost."""

import errno
import os
import signal
import sqlite3
import struct
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from core_bags import (
    ENCODINGS,
    STORAGES,
    read_all,
    subprocess_environment,
    write_depth_bag,
)
from realdiff_core.bag import BagReader, BagWriter
from realdiff_core.episode import decode_image, depth_topics, read_camera, require_depth_topic
from realdiff_core.errors import BagError, ImageError, OutputError, RealdiffError
from realdiff_core.image import numpy_to_image_fields
from realdiff_core.messages import CAMERA_INFO, IMAGE, make, serialize
from realdiff_core.stamps import StampGuard
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore

from realdiff_core import topics

SUFFIX = {"mcap": ".mcap", "sqlite3": ".db3"}


def storage_file(bag):
    return next(item for item in bag.iterdir() if item.suffix in SUFFIX.values())


def error_of(bag, kind=BagError):
    with pytest.raises(kind) as caught:
        read_all(bag)
    text = str(caught.value)
    assert str(bag) in text, "the error names the file"
    assert "next step" in text
    return text


def foreign_bag(path, storage, stamps):
    """A bag by another writer, with any stamps."""
    plugin = StoragePlugin.MCAP if storage == "mcap" else StoragePlugin.SQLITE3
    store = get_typestore(Stores.ROS2_JAZZY)
    data = serialize(make("std_msgs/msg/String", data="x"))
    with Writer(path, version=9, storage_plugin=plugin) as writer:
        connection = writer.add_connection("/text", "std_msgs/msg/String", typestore=store)
        for stamp in stamps:
            writer.write(connection, stamp, data)
    return path


def test_bag_that_does_not_exist(tmp_path):
    assert "doesn't exist" in error_of(tmp_path / "nothing")


@pytest.mark.parametrize("share", [0.02, 0.5, 0.98])
@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("storage", STORAGES)
def test_truncated_bag(tmp_path, storage, encoding, share):
    bag = write_depth_bag(tmp_path / "bag", storage, encoding, frames=8, size=(60, 80))
    file = storage_file(bag)
    os.truncate(file, int(file.stat().st_size * share))
    assert "truncated or damaged" in error_of(bag)


@pytest.mark.parametrize("storage", STORAGES)
def test_damaged_in_the_middle_never_gives_wrong_counts(tmp_path, storage):
    bag = write_depth_bag(tmp_path / "bag", storage, frames=8, size=(60, 80))
    content = bytearray(storage_file(bag).read_bytes())
    for start in range(4096, len(content), len(content) // 7):
        damaged = content.copy()
        damaged[start : start + 300] = b"\xff" * 300
        storage_file(bag).write_bytes(damaged)
        # Pixels can't be told from damaged pixels; structure can.
        try:
            assert len(read_all(bag)) == 25
        except BagError as error:
            assert str(bag) in str(error)


@pytest.mark.parametrize("storage", STORAGES)
def test_storage_file_of_no_bytes(tmp_path, storage):
    bag = write_depth_bag(tmp_path / "bag", storage)
    os.truncate(storage_file(bag), 0)
    assert "0 bytes" in error_of(bag)


@pytest.mark.parametrize("storage", STORAGES)
def test_bag_without_messages(tmp_path, storage):
    with BagWriter(tmp_path / "bag", storage) as writer:
        writer.add_topic("/text", "std_msgs/msg/String")
    assert "bag is empty" in error_of(tmp_path / "bag")
    with BagReader(tmp_path / "bag", allow_empty=True) as reader:
        assert list(reader.messages()) == []
        assert reader.first("/text") is None


@pytest.mark.parametrize("storage", STORAGES)
def test_unknown_storage(tmp_path, storage):
    bag = write_depth_bag(tmp_path / "bag", storage)
    metadata = bag / "metadata.yaml"
    metadata.write_text(metadata.read_text().replace(f"storage_identifier: {storage}", "storage_identifier: tape"))
    text = error_of(bag)
    assert "unknown bag storage" in text and "mcap or sqlite3" in text and "tape" in text
    with pytest.raises(BagError, match="unknown bag storage"):
        BagWriter(tmp_path / "new", "tape")


@pytest.mark.parametrize("storage", STORAGES)
def test_missing_metadata_offers_reindex(tmp_path, storage):
    bag = write_depth_bag(tmp_path / "bag", storage)
    (bag / "metadata.yaml").unlink()
    assert f"ros2 bag reindex {bag} -s {storage}" in error_of(bag)


@pytest.mark.parametrize("content", ["", "[", "a: 1", "rosbag2_bagfile_information: 5", "\x00\x01"])
def test_damaged_metadata(tmp_path, content):
    bag = write_depth_bag(tmp_path / "bag")
    (bag / "metadata.yaml").write_text(content)
    assert "metadata.yaml is damaged" in error_of(bag)


@pytest.mark.parametrize("key", ["topics_with_message_count", "duration", "relative_file_paths", "message_count"])
def test_metadata_lacks_a_key(tmp_path, key):
    bag = write_depth_bag(tmp_path / "bag")
    content = yaml.safe_load((bag / "metadata.yaml").read_text())
    del content["rosbag2_bagfile_information"][key]
    (bag / "metadata.yaml").write_text(yaml.safe_dump(content))
    assert "damaged" in error_of(bag)


@pytest.mark.parametrize("storage", STORAGES)
def test_missing_storage_file(tmp_path, storage):
    bag = write_depth_bag(tmp_path / "bag", storage)
    storage_file(bag).unlink()
    assert "a file of the bag is missing" in error_of(bag)


@pytest.mark.parametrize("storage", STORAGES)
def test_fewer_messages_than_the_metadata_says(tmp_path, storage):
    bag = write_depth_bag(tmp_path / "bag", storage)
    metadata = bag / "metadata.yaml"
    metadata.write_text(metadata.read_text().replace("message_count: 5", "message_count: 6"))
    assert "fewer messages" in error_of(bag)


def test_ros1_bag_and_other_files(tmp_path):
    for name, text in (("old.bag", "ROS 1"), ("notes.txt", "unknown bag storage")):
        (tmp_path / name).write_bytes(b"#ROSBAG V2.0\n")
        with pytest.raises(BagError, match=text):
            BagReader(tmp_path / name)
    (tmp_path / "folder").mkdir()
    with pytest.raises(BagError, match=r"metadata\.yaml is missing"):
        BagReader(tmp_path / "folder")


@pytest.mark.parametrize("storage", STORAGES)
def test_absent_topic_lists_those_there_are(tmp_path, storage):
    bag = write_depth_bag(tmp_path / "bag", storage)
    with BagReader(bag) as reader:
        with pytest.raises(BagError, match="topic is absent") as caught:
            next(reader.messages(["/nope"]))
        assert topics.DEPTH_IMAGE in str(caught.value) and "/nope" in str(caught.value)
        with pytest.raises(BagError, match="doesn't carry depth images"):
            require_depth_topic(reader, topics.JOINT_STATES)
        assert require_depth_topic(reader, topics.DEPTH_IMAGE) == "16UC1"
        assert depth_topics(reader) == [topics.DEPTH_IMAGE]


def image_bag(path, storage="mcap", info=None, **changes):
    """A bag with one depth image, changed as wanted."""
    import numpy as np

    fields = {**numpy_to_image_fields(np.ones((6, 4), np.uint16), "16UC1"), **changes}
    with BagWriter(path, storage) as writer:
        writer.add_topic(topics.DEPTH_IMAGE, IMAGE)
        writer.write_message(topics.DEPTH_IMAGE, 1, make(IMAGE, **fields))
        if info is not None:
            writer.add_topic(topics.DEPTH_INFO, CAMERA_INFO)
            writer.write_message(topics.DEPTH_INFO, 1, make(CAMERA_INFO, **info))
    return path


@pytest.mark.parametrize("storage", STORAGES)
def test_missing_camera_info(tmp_path, storage):
    bag = image_bag(tmp_path / "bag", storage)
    with BagReader(bag) as reader, pytest.raises(BagError, match=r"camera_info of .* is missing") as caught:
        read_camera(reader, topics.DEPTH_IMAGE)
    assert topics.DEPTH_INFO in str(caught.value) and str(tmp_path / "bag") in str(caught.value)


def test_uncalibrated_camera_info_names_file_and_topic(tmp_path):
    bag = image_bag(tmp_path / "bag", info={"width": 4, "height": 6})
    with BagReader(bag) as reader, pytest.raises(RealdiffError, match="intrinsics make no sense") as caught:
        read_camera(reader, topics.DEPTH_IMAGE)
    assert topics.DEPTH_INFO in str(caught.value) and str(tmp_path / "bag") in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"encoding": "bayer_rggb8"}, "encoding isn't handled"),
        ({"data": b"\0" * 47}, "wrong length"),
        ({"height": 7}, "wrong length"),
        ({"step": 2}, "longer than their step"),
    ],
)
def test_image_of_wrong_encoding_or_size(tmp_path, changes, text):
    with BagReader(image_bag(tmp_path / "bag", **changes)) as reader:
        raw = next(reader.messages())
        with pytest.raises(ImageError, match=text) as caught:
            decode_image(reader, raw)
    assert topics.DEPTH_IMAGE in str(caught.value) and str(tmp_path / "bag") in str(caught.value)


def test_colour_image_is_not_a_depth_topic(tmp_path):
    bag = image_bag(tmp_path / "bag", encoding="rgb8", width=2, step=8)
    with BagReader(bag) as reader, pytest.raises(BagError, match="doesn't carry depth images") as caught:
        require_depth_topic(reader, topics.DEPTH_IMAGE)
    assert "rgb8" in str(caught.value)


def test_message_that_is_cut_short(tmp_path):
    with BagWriter(tmp_path / "bag") as writer:
        writer.add_topic(topics.DEPTH_IMAGE, IMAGE)
        writer.write(topics.DEPTH_IMAGE, 5, b"\0\1\0\0\1\0\0")
    with BagReader(tmp_path / "bag") as reader, pytest.raises(BagError, match="can't be decoded") as caught:
        reader.deserialize(next(reader.messages()))
    assert "stamp 5 ns" in str(caught.value)


def test_negative_stamps(tmp_path):
    bag = foreign_bag(tmp_path / "sqlite", "sqlite3", [-5, 3])
    assert "negative" in error_of(bag) and "-5 ns" in error_of(bag)
    bag = foreign_bag(tmp_path / "mcap", "mcap", [3, (1 << 64) - 5])
    assert "negative" in error_of(bag) and "-5 ns" in error_of(bag)
    with BagWriter(tmp_path / "new") as writer:
        writer.add_topic("/text", "std_msgs/msg/String")
        with pytest.raises(BagError, match="negative"):
            writer.write("/text", -1, b"")


@pytest.mark.parametrize("storage", STORAGES)
def test_unsorted_stamps(tmp_path, storage):
    bag = foreign_bag(tmp_path / "bag", storage, [10, 30, 20])
    text = error_of(bag)
    assert "go backwards" in text and "/text" in text and "ros2 bag convert" in text
    with BagWriter(tmp_path / "new", storage) as writer:
        writer.add_topic("/text", "std_msgs/msg/String")
        writer.write("/text", 7, b"")
        with pytest.raises(BagError, match="go backwards"):
            writer.write("/text", 6, b"")


def test_header_stamps_that_are_negative_or_go_backwards():
    guard = StampGuard("some.bag")
    guard.check("/a", 5)
    guard.check("/b", 3)
    guard.check("/a", 5)
    with pytest.raises(BagError, match="go backwards") as caught:
        guard.check("/a", 4)
    assert "some.bag, topic /a" in str(caught.value)
    with pytest.raises(BagError, match="negative"):
        guard.check("/c", -1)


@pytest.mark.parametrize("storage", STORAGES)
def test_index_that_points_nowhere(tmp_path, storage):
    bag = write_depth_bag(tmp_path / "bag", storage)
    file = storage_file(bag)
    if storage == "sqlite3":
        with sqlite3.connect(file) as database:
            database.execute("UPDATE messages SET topic_id = 99 WHERE id = 3")
    else:
        content = bytearray(file.read_bytes())
        footer = len(content) - 8 - 20
        struct.pack_into("<Q", content, footer, len(content) * 2)
        file.write_bytes(content)
    assert error_of(bag)


def test_paths_that_sqlite_misreads_are_refused(tmp_path):
    bag = write_depth_bag(tmp_path / "run#1", "mcap")
    assert len(read_all(bag)) == 16
    with pytest.raises(BagError, match="isn't possible with SQLite"):
        BagWriter(tmp_path / "what?", "sqlite3")
    plain = write_depth_bag(tmp_path / "plain", "sqlite3")
    plain.rename(tmp_path / "100%")
    with pytest.raises(BagError, match="isn't possible with SQLite"):
        BagReader(tmp_path / "100%")


@pytest.mark.parametrize("storage", STORAGES)
def test_existing_output_is_not_touched(tmp_path, storage):
    bag = write_depth_bag(tmp_path / "bag", storage, frames=2)
    before = {item.name: item.read_bytes() for item in bag.iterdir()}
    with pytest.raises(OutputError, match="exists already") as caught:
        write_depth_bag(bag, storage)
    assert str(bag) in str(caught.value)
    assert {item.name: item.read_bytes() for item in bag.iterdir()} == before
    write_depth_bag(bag, storage, frames=3, overwrite=True)
    assert len(read_all(bag)) == 10
    assert [item.name for item in tmp_path.iterdir()] == ["bag"]


@pytest.mark.parametrize("storage", STORAGES)
def test_overwriting_keeps_the_old_bag_until_the_new_one_is_complete(tmp_path, storage):
    bag = write_depth_bag(tmp_path / "bag", storage, frames=2)
    before = read_all(bag)
    with pytest.raises(ZeroDivisionError), BagWriter(bag, storage, overwrite=True) as writer:
        writer.add_topic("/text", "std_msgs/msg/String")
        writer.write("/text", 1, b"\0\1\0\0")
        assert read_all(bag) == before
        _ = 1 / 0
    assert read_all(bag) == before
    assert [item.name for item in tmp_path.iterdir()] == ["bag"]


def test_only_bags_are_overwritten(tmp_path):
    precious = tmp_path / "thesis"
    precious.mkdir()
    (precious / "chapter1.tex").write_text("…")
    with pytest.raises(OutputError, match="won't be overwritten"):
        write_depth_bag(precious, overwrite=True)
    (tmp_path / "file").write_text("x")
    with pytest.raises(OutputError, match="won't be overwritten"):
        write_depth_bag(tmp_path / "file", overwrite=True)
    target = write_depth_bag(tmp_path / "real")
    (tmp_path / "link").symlink_to(target)
    with pytest.raises(OutputError, match="won't be overwritten"):
        write_depth_bag(tmp_path / "link", overwrite=True)
    assert (precious / "chapter1.tex").read_text() == "…"


@pytest.mark.parametrize("storage", STORAGES)
def test_output_that_appears_while_writing_is_not_touched(tmp_path, storage):
    bag = tmp_path / "bag"
    with pytest.raises(OutputError, match="exists already"), BagWriter(bag, storage) as writer:
        writer.add_topic("/text", "std_msgs/msg/String")
        bag.mkdir()
        (bag / "mine").write_text("x")
    assert (bag / "mine").read_text() == "x"
    assert [item.name for item in tmp_path.iterdir()] == ["bag"]


def test_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(OutputError, match="can't be written"):
        write_depth_bag(tmp_path / "file" / "bag")


FILL = """
import resource, sys
from core_bags import write_depth_bag
from realdiff_core.cli import run_command
resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, 400_000))
from pathlib import Path
bag = Path(sys.argv[1])
run_command(lambda: write_depth_bag(bag, sys.argv[2], frames=200, size=(60, 80), overwrite=True) and 0)
"""


@pytest.mark.parametrize("storage", STORAGES)
def test_disk_full(tmp_path, storage):
    """A limit on the size of files stands in for a full disk: the same calls fail."""
    bag = write_depth_bag(tmp_path / "bag", storage, frames=2)
    before = read_all(bag)
    environment = subprocess_environment()
    environment["PYTHONPATH"] += os.pathsep + str(Path(__file__).parent)
    result = subprocess.run(
        [sys.executable, "-c", FILL, str(bag), storage], capture_output=True, text=True, env=environment, check=False
    )
    assert result.returncode == 2, result.stderr
    assert "disk" in result.stderr and str(bag) in result.stderr and "next step" in result.stderr
    assert "Traceback" not in result.stderr
    assert read_all(bag) == before
    assert [item.name for item in tmp_path.iterdir()] == ["bag"]


@pytest.mark.parametrize("storage", STORAGES)
def test_disk_full_at_the_very_end(tmp_path, storage, monkeypatch):
    import realdiff_core.output

    def full(path):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    monkeypatch.setattr(realdiff_core.output, "_sync", full)
    with pytest.raises(OutputError, match="disk is full") as caught:
        write_depth_bag(tmp_path / "bag", storage)
    assert "free some space" in str(caught.value)
    assert list(tmp_path.iterdir()) == []


SLOW = """
import sys, time
from pathlib import Path
from realdiff_core.bag import BagWriter
with BagWriter(Path(sys.argv[1]), sys.argv[2], overwrite=True) as writer:
    writer.add_topic("/text", "std_msgs/msg/String")
    for index in range(100_000):
        writer.write("/text", index, bytes(100_000))
        if index == 30:
            print("writing", flush=True)
            time.sleep(60)
"""


@pytest.fixture
def slow_writer():
    started = []

    def start(bag, storage):
        process = subprocess.Popen(
            [sys.executable, "-c", SLOW, str(bag), storage],
            stdout=subprocess.PIPE,
            text=True,
            env=subprocess_environment(),
        )
        started.append(process)
        assert process.stdout.readline() == "writing\n"
        return process

    yield start
    for process in started:
        process.kill()
        process.wait()
        process.stdout.close()


@pytest.mark.parametrize("existing", [False, True], ids=["new", "overwriting"])
@pytest.mark.parametrize("storage", STORAGES)
def test_killed_while_writing(tmp_path, storage, existing, slow_writer):
    bag = tmp_path / "bag"
    before = read_all(write_depth_bag(bag, storage)) if existing else None
    process = slow_writer(bag, storage)
    remains = [item.name for item in tmp_path.iterdir() if item.name != "bag"]
    assert len(remains) == 1 and remains[0].startswith(".bag.partial-")
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert bag.exists() == existing
    if existing:
        assert read_all(bag) == before
    # Running it again works, and clears what the killed process left.
    write_depth_bag(bag, storage, frames=3, overwrite=existing)
    assert len(read_all(bag)) == 10
    assert [item.name for item in tmp_path.iterdir()] == ["bag"]


def test_killed_between_the_two_renames(tmp_path, slow_writer):
    bag = write_depth_bag(tmp_path / "bag", frames=2)
    before = read_all(bag)
    process = slow_writer(bag, "mcap")
    process.kill()
    process.wait()
    work = next(item for item in tmp_path.iterdir() if item.name.startswith(".bag.partial-"))
    bag.rename(work / "previous")  # what the writer does just before it puts the new bag in its place
    with pytest.raises(OutputError, match="exists already"):
        write_depth_bag(bag)  # the old bag is back, and protected
    assert read_all(bag) == before


def test_a_living_writer_is_left_alone(tmp_path, slow_writer):
    process = slow_writer(tmp_path / "bag", "mcap")
    write_depth_bag(tmp_path / "bag")
    assert process.poll() is None
    assert any(item.name.startswith(".bag.partial-") for item in tmp_path.iterdir())
    assert len(read_all(tmp_path / "bag")) == 16


def test_interrupted_with_ctrl_c_leaves_nothing(tmp_path, slow_writer):
    process = slow_writer(tmp_path / "bag", "sqlite3")
    time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    process.wait(10)
    assert list(tmp_path.iterdir()) == []


def test_folders_of_others_are_not_taken_for_remains(tmp_path):
    stranger = tmp_path / ".bag.partial-notes"
    stranger.mkdir()
    (stranger / "text").write_text("x")
    write_depth_bag(tmp_path / "bag")
    assert (stranger / "text").read_text() == "x"


def test_misuse_of_the_writer_is_named(tmp_path):
    with BagWriter(tmp_path / "bag") as writer:
        with pytest.raises(BagError, match="hasn't been added"):
            writer.write("/text", 1, b"")
        with pytest.raises(BagError, match="type is unknown"):
            writer.add_topic("/text", "acme_msgs/msg/Thing")
        writer.add_topic("/text", "std_msgs/msg/String")
        with pytest.raises(BagError, match="added before"):
            writer.add_topic("/text", "std_msgs/msg/String")
    for arguments in ({"compression": "gzip"}, {"version": 3}):
        with pytest.raises(BagError):
            BagWriter(tmp_path / "new", **arguments)
    with pytest.raises(BagError, match="not open"):
        next(BagReader(tmp_path / "bag", allow_empty=True).messages())
