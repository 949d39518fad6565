"""Bags: what goes in comes out, in stock rosbag2's format."""

import sqlite3

import numpy as np
import pytest
import yaml
from core_bags import (
    ENCODINGS,
    PERIOD_NS,
    PROVENANCE,
    START_NS,
    STORAGES,
    depth_image,
    read_all,
    shared_data,
    write_depth_bag,
)
from realdiff_core.bag import BagReader, BagWriter, RawMessage, TopicInfo, qos
from realdiff_core.depth import depth_to_metres, encode_like
from realdiff_core.errors import BagError
from realdiff_core.image import image_to_numpy, numpy_to_image_fields
from realdiff_core.messages import IMAGE, make
from rosbags.rosbag2 import Reader, StoragePlugin, Writer
from rosbags.rosbag2.enums import CompressionFormat, CompressionMode
from rosbags.typesys import Stores, get_typestore

from realdiff_core import topics


def copy(source, target, storage, change=None, **options):
    """Bag in → bag out; `change` re-encodes depth images."""
    with BagReader(source) as reader, BagWriter(target, storage, **options) as writer:
        for info in reader.topics.values():
            writer.copy_topic(info)
        for key, value in reader.custom_data.items():
            writer.set_custom_data(key, value)
        for raw in reader.messages():
            if change and raw.topic == topics.DEPTH_IMAGE:
                writer.write_message(raw.topic, raw.stamp_ns, change(reader.deserialize(raw)))
            else:
                writer.write(*raw)


def reencoded(message):
    pixels = image_to_numpy(message)
    metres = depth_to_metres(pixels, message.encoding)
    fields = numpy_to_image_fields(encode_like(pixels, message.encoding, metres, metres), message.encoding)
    return make(IMAGE, header=message.header, **fields)


@pytest.mark.parametrize("compression", ["none", "zstd"])
@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("target_storage", STORAGES)
@pytest.mark.parametrize("storage", STORAGES)
def test_bag_in_bag_out_is_identical(tmp_path, storage, target_storage, encoding, compression):
    source = write_depth_bag(tmp_path / "in", storage, encoding, compression=compression)
    copy(source, tmp_path / "out", target_storage, reencoded, compression=compression)
    assert read_all(tmp_path / "out") == read_all(source)
    with BagReader(source) as one, BagReader(tmp_path / "out") as other:
        assert other.topics == one.topics
        assert other.storage == target_storage
        assert other.custom_data == one.custom_data
        assert other.provenance() == PROVENANCE
        assert (other.start_ns, other.end_ns) == (one.start_ns, one.end_ns) == (START_NS, START_NS + 4 * PERIOD_NS)
        assert other.message_count == one.message_count == 16


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("storage", STORAGES)
def test_contents_and_order(tmp_path, storage, encoding):
    path = write_depth_bag(tmp_path / "bag", storage, encoding)
    expected = [(topics.TF_STATIC, START_NS)]
    for index in range(5):
        stamp = START_NS + index * PERIOD_NS
        expected += [(name, stamp) for name in (topics.DEPTH_INFO, topics.DEPTH_IMAGE, topics.JOINT_STATES)]
    assert [(raw.topic, raw.stamp_ns) for raw in read_all(path)] == expected
    with BagReader(path) as reader:
        for index, raw in enumerate(reader.messages([topics.DEPTH_IMAGE])):
            message = reader.deserialize(raw)
            assert message.encoding == encoding and message.header.frame_id == topics.DEPTH_FRAME
            np.testing.assert_array_equal(image_to_numpy(message), depth_image(index, encoding))
        assert reader.first(topics.TF_STATIC).stamp_ns == START_NS


@pytest.mark.parametrize("storage", STORAGES)
def test_an_independent_reader_agrees(tmp_path, storage):
    path = write_depth_bag(tmp_path / "bag", storage)
    store = get_typestore(Stores.ROS2_JAZZY)
    with Reader(path) as reader:
        assert {c.topic: c.msgtype for c in reader.connections}[topics.DEPTH_IMAGE] == IMAGE
        seen = [(c.topic, stamp, bytes(data)) for c, stamp, data in reader.messages()]
        images = [store.deserialize_cdr(data, IMAGE) for name, _, data in seen if name == topics.DEPTH_IMAGE]
    assert seen == [tuple(raw) for raw in read_all(path)]
    assert [image.height for image in images] == [12] * 5


@pytest.mark.parametrize("mode", [CompressionMode.FILE, CompressionMode.MESSAGE, CompressionMode.STORAGE])
@pytest.mark.parametrize("plugin", list(StoragePlugin))
def test_reads_every_compression_of_others(tmp_path, plugin, mode):
    if plugin == StoragePlugin.SQLITE3 and mode == CompressionMode.STORAGE:
        pytest.skip("sqlite3 storage has no compression of its own")
    store = get_typestore(Stores.ROS2_JAZZY)
    writer = Writer(tmp_path / "bag", version=9, storage_plugin=plugin)
    writer.set_compression(mode, CompressionFormat.ZSTD)
    with writer:
        connection = writer.add_connection("/text", "std_msgs/msg/String", typestore=store)
        for index in range(100):
            writer.write(connection, index, b"\0\1\0\0" + bytes([2, 0, 0, 0, 65 + index % 26, 0]))
    assert [raw.stamp_ns for raw in read_all(tmp_path / "bag")] == list(range(100))


@pytest.mark.parametrize("storage", STORAGES)
def test_metadata_is_what_jazzy_writes(tmp_path, storage):
    path = write_depth_bag(tmp_path / "bag", storage)
    metadata = yaml.safe_load((path / "metadata.yaml").read_text())["rosbag2_bagfile_information"]
    assert metadata["version"] == 9
    assert metadata["storage_identifier"] == storage
    assert metadata["relative_file_paths"] == [f"bag.{'mcap' if storage == 'mcap' else 'db3'}"]
    assert (path / metadata["relative_file_paths"][0]).is_file()
    assert metadata["duration"] == {"nanoseconds": 4 * PERIOD_NS}
    assert metadata["starting_time"] == {"nanoseconds_since_epoch": START_NS}
    assert metadata["message_count"] == 16
    assert metadata["compression_format"] == metadata["compression_mode"] == ""
    assert metadata["files"][0]["message_count"] == 16
    assert isinstance(metadata["ros_distro"], str)
    assert metadata["custom_data"] == {"realdiff.provenance": PROVENANCE.to_json()}
    listed = {item["topic_metadata"]["name"]: item for item in metadata["topics_with_message_count"]}
    tf_static = listed[topics.TF_STATIC]["topic_metadata"]
    assert listed[topics.DEPTH_IMAGE]["message_count"] == 5
    assert tf_static["serialization_format"] == "cdr"
    # sensor_msgs/Image of Jazzy, from /opt/ros/jazzy/share/sensor_msgs/msg/Image.json.
    image_hash = "RIHS01_d31d41a9a4c4bc8eae9be757b0beed306564f7526c88ea6a4588fb9582527d47"
    assert listed[topics.DEPTH_IMAGE]["topic_metadata"]["type_description_hash"] == image_hash
    infinite = {"sec": 9223372036, "nsec": 854775807}
    assert tf_static["offered_qos_profiles"] == [
        {
            "history": "keep_last",
            "depth": 1,
            "reliability": "reliable",
            "durability": "transient_local",
            "deadline": infinite,
            "lifespan": infinite,
            "liveliness": "automatic",
            "liveliness_lease_duration": infinite,
            "avoid_ros_namespace_conventions": False,
        }
    ]


def test_empty_custom_data_and_unknown_qos_are_as_rosbag2_expects(tmp_path):
    with BagWriter(tmp_path / "bag") as writer:
        writer.add_topic("/text", "std_msgs/msg/String", qos=[])
        writer.write_message("/text", 1, make("std_msgs/msg/String", data="a"))
    metadata = yaml.safe_load((tmp_path / "bag" / "metadata.yaml").read_text())["rosbag2_bagfile_information"]
    assert metadata["custom_data"] is None
    assert metadata["topics_with_message_count"][0]["topic_metadata"]["offered_qos_profiles"] == []


@pytest.mark.parametrize("storage", STORAGES)
def test_humble_metadata(tmp_path, storage):
    path = write_depth_bag(tmp_path / "bag", storage, version=5)
    metadata = yaml.safe_load((path / "metadata.yaml").read_text())["rosbag2_bagfile_information"]
    assert metadata["version"] == 5
    assert "ros_distro" not in metadata
    topic = metadata["topics_with_message_count"][0]["topic_metadata"]
    assert set(topic) == {"name", "type", "serialization_format", "offered_qos_profiles"}
    profile = yaml.safe_load(topic["offered_qos_profiles"])  # a YAML text with numbers, in those days
    assert profile[0]["durability"] == 1 and profile[0]["history"] == 1
    copy(path, tmp_path / "jazzy", storage)
    assert read_all(tmp_path / "jazzy") == read_all(path)
    with BagReader(path) as humble, BagReader(tmp_path / "jazzy") as jazzy:
        assert humble.provenance() == jazzy.provenance() == PROVENANCE
        assert {name: info.qos for name, info in humble.topics.items()} == {
            name: info.qos for name, info in jazzy.topics.items()
        }


def test_mcap_schemas_are_complete_ros2msg_definitions(tmp_path):
    path = write_depth_bag(tmp_path / "bag", "mcap")
    with BagReader(path) as reader:
        info = reader.topics[topics.DEPTH_IMAGE]
    assert info.msgdef_format == "ros2msg"
    assert "uint8[] data" in info.msgdef
    assert "MSG: std_msgs/Header" in info.msgdef and "MSG: builtin_interfaces/Time" in info.msgdef


def test_sqlite_tables_are_those_of_rosbag2(tmp_path):
    path = write_depth_bag(tmp_path / "bag", "sqlite3")
    with sqlite3.connect(path / "bag.db3") as database:
        tables = {row[0] for row in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        assert {"schema", "metadata", "topics", "messages", "message_definitions"} <= tables
        assert database.execute("SELECT schema_version FROM schema").fetchone() == (4,)
        assert database.execute("SELECT count(*) FROM messages").fetchone() == (16,)


@pytest.mark.parametrize("storage", STORAGES)
def test_unknown_types_are_copied_without_being_understood(tmp_path, storage):
    definition = "float64 pressure\nuint8 unit\n"
    info = TopicInfo("/gauge", "acme_msgs/msg/Gauge", (qos("sensor"),), msgdef=definition)
    bare = TopicInfo("/secret", "acme_msgs/msg/Secret", (qos("latched"),))
    payload = b"\0\1\0\0" + np.float64(1013.25).tobytes() + b"\2"
    with BagWriter(tmp_path / "in", storage) as writer:
        writer.copy_topic(info)
        writer.copy_topic(bare)
        writer.write("/gauge", 10, payload)
        writer.write("/secret", 20, b"\0\1\0\0?")
    copy(tmp_path / "in", tmp_path / "out", "mcap")
    assert read_all(tmp_path / "out") == [RawMessage("/gauge", 10, payload), RawMessage("/secret", 20, b"\0\1\0\0?")]
    with BagReader(tmp_path / "out") as reader:
        assert reader.topics["/gauge"].msgdef == definition
        assert reader.topics["/gauge"].digest.startswith("RIHS01_")  # follows from the definition
        assert reader.topics["/secret"].qos == (qos("latched"),)
        assert reader.topics["/secret"].msgdef == ""
        first, second = reader.messages()
        message = reader.deserialize(first)
        assert (message.pressure, message.unit) == (1013.25, 2)
        with pytest.raises(BagError, match="type is unknown"):
            reader.deserialize(second)


@pytest.mark.parametrize("storage", STORAGES)
def test_a_foreign_bag_passes_through(tmp_path, storage):
    source = shared_data("bags", "rosbag2_test")
    copy(source, tmp_path / "out", storage)
    before, after = read_all(source), read_all(tmp_path / "out")
    assert len(before) == 4695
    assert after == before
    with BagReader(tmp_path / "out") as reader:
        assert set(reader.topics) == {"/imu", "/battery", "/parameter_events", "/rosout", "/pose"}
        assert reader.topics["/imu"].count == 1565 and reader.topics["/rosout"].count == 0
        assert "float64[9] orientation_covariance" in reader.topics["/imu"].msgdef
        assert reader.deserialize(reader.first("/pose")).header.stamp.sec == 1588512872


def split_bag(path, parts, storage):
    """A bag of several files, as `ros2 bag record --max-bag-size` makes it."""
    suffix = "mcap" if storage == "mcap" else "db3"
    merged, names = None, []
    path.mkdir()
    for index, messages in enumerate(parts):
        part = path.parent / f"part{index}"
        with BagWriter(part, storage) as writer:
            for name in sorted({message.topic for message in messages}):
                writer.add_topic(name, "std_msgs/msg/String")
            for message in messages:
                writer.write(*message)
        names.append(f"bag_{index}.{suffix}")
        (part / f"part{index}.{suffix}").rename(path / names[-1])
        metadata = yaml.safe_load((part / "metadata.yaml").read_text())
        info = metadata["rosbag2_bagfile_information"]
        if merged is None:
            merged = metadata
            total = info
        else:
            total["message_count"] += info["message_count"]
            for one, other in zip(total["topics_with_message_count"], info["topics_with_message_count"], strict=True):
                one["message_count"] += other["message_count"]
    total["relative_file_paths"] = names
    (path / "metadata.yaml").write_text(yaml.safe_dump(merged))


def text(value: str) -> bytes:
    from realdiff_core.messages import serialize

    return serialize(make("std_msgs/msg/String", data=value))


@pytest.mark.parametrize("storage", STORAGES)
def test_split_bags_are_merged_by_time(tmp_path, storage):
    first = [RawMessage("/a", 1, text("1")), RawMessage("/b", 5, text("2"))]
    second = [RawMessage("/a", 4, text("3")), RawMessage("/b", 5, text("4")), RawMessage("/a", 6, text("5"))]
    split_bag(tmp_path / "bag", [first, second], storage)
    assert read_all(tmp_path / "bag") == [first[0], second[0], first[1], second[1], second[2]]


@pytest.mark.parametrize("storage", STORAGES)
def test_topics_that_jitter_against_each_other_are_sorted(tmp_path, storage):
    messages = [RawMessage("/a", 10, text("x")), RawMessage("/b", 9, text("y")), RawMessage("/a", 10, text("z"))]
    with BagWriter(tmp_path / "bag", storage) as writer:
        writer.add_topic("/a", "std_msgs/msg/String")
        writer.add_topic("/b", "std_msgs/msg/String")
        for message in messages:
            writer.write(*message)
    assert read_all(tmp_path / "bag") == [messages[1], messages[0], messages[2]]


def test_overlapping_chunks_are_merged(tmp_path):
    big = bytes(700_000)
    messages = []
    with BagWriter(tmp_path / "bag", "mcap") as writer:
        for name in ("/fast", "/slow"):
            writer.add_topic(name, "std_msgs/msg/String")
        for index in range(20):
            messages += [RawMessage("/fast", 100 + 10 * index, big), RawMessage("/slow", 10 * index, b"slow")]
            for message in messages[-2:]:
                writer.write(*message)
    assert read_all(tmp_path / "bag") == sorted(messages, key=lambda message: message.stamp_ns)


@pytest.mark.parametrize("name", ["bag", "a single file"])
@pytest.mark.parametrize("storage", STORAGES)
def test_a_bag_may_be_named_by_its_only_file(tmp_path, storage, name):
    path = write_depth_bag(tmp_path / name, storage)
    file = next(item for item in path.iterdir() if item.name != "metadata.yaml")
    for alias in (file, path / "metadata.yaml", str(path)):
        with BagReader(alias) as reader:
            assert reader.provenance() == PROVENANCE
            assert reader.message_count == 16
    alone = tmp_path / f"alone{file.suffix}"
    file.rename(alone)
    with BagReader(alone) as reader:
        assert len(list(reader.messages())) == 16
        assert reader.provenance() is None  # nobody knows any more: the guard treats it as noisy


@pytest.mark.parametrize("storage", STORAGES)
def test_same_input_same_bytes(tmp_path, storage):
    one = write_depth_bag(tmp_path / "one" / "bag", storage)
    other = write_depth_bag(tmp_path / "other" / "bag", storage)
    for file in one.iterdir():
        assert file.read_bytes() == (other / file.name).read_bytes(), file.name


@pytest.mark.parametrize("compression", ["none", "zstd"])
def test_faster_mcap_writer_writes_the_same_bytes_as_rosbags(tmp_path, compression):
    store = get_typestore(Stores.ROS2_JAZZY)
    messages = [(f"/{index % 3}", index * 7, bytes([index % 251]) * (index * 997 % 300_000)) for index in range(60)]
    slow = Writer(tmp_path / "slow" / "bag", version=9, storage_plugin=StoragePlugin.MCAP)
    if compression == "zstd":
        slow.set_compression(CompressionMode.STORAGE, CompressionFormat.ZSTD)
    with slow, BagWriter(tmp_path / "fast" / "bag", "mcap", compression) as fast:
        connections = {}
        for name in ("/0", "/1", "/2"):
            connections[name] = slow.add_connection(name, "std_msgs/msg/String", typestore=store)
            fast.add_topic(name, "std_msgs/msg/String", qos=[])
        for name, stamp, data in messages:
            slow.write(connections[name], stamp, data)
            fast.write(name, stamp, data)
    for name in ("bag.mcap", "metadata.yaml"):
        assert (tmp_path / "fast" / "bag" / name).read_bytes() == (tmp_path / "slow" / "bag" / name).read_bytes()
