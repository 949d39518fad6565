"""`ros2 bag` over real DDS: what is recorded comes back, byte for byte and in time."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest
import yaml
from embedded_testing import Process
from rosbags.rosbag2 import Reader, StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore

Ros2 = Callable[..., tuple[int, str]]
FRAMES = 60


@pytest.fixture(scope="module")
def typestore() -> object:
    return get_typestore(Stores.ROS2_JAZZY)


def write_bag(path: Path, typestore: object, storage: str = "mcap", count: int = 20, step_s: float = 0.05) -> Path:
    """Write a bag of numbered texts."""
    plugin = StoragePlugin.MCAP if storage == "mcap" else StoragePlugin.SQLITE3
    with Writer(path, version=9, storage_plugin=plugin) as writer:
        first = writer.add_connection("/first", "std_msgs/msg/String", typestore=typestore)
        second = writer.add_connection("/second", "std_msgs/msg/String", typestore=typestore)
        cls = typestore.types["std_msgs/msg/String"]
        for number in range(count):
            data = typestore.serialize_cdr(cls(data=f"message {number}"), "std_msgs/msg/String")
            stamp = 1_700_000_000_000_000_000 + int(number * step_s * 1e9)
            writer.write(first, stamp, data)
            writer.write(second, stamp + 1, data)
    return path


def node(environment: dict[str, str], name: str) -> Path:
    return Path(environment["AMENT_PREFIX_PATH"].split(":")[0]) / "lib" / "demo_nodes" / name


@pytest.mark.graph
@pytest.mark.alone
@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
def test_images_are_recorded_and_played_without_loss(
    environment: dict[str, str], start: Callable[..., Process], ros2: Ros2, tmp_path: Path, storage: str
) -> None:
    bag = tmp_path / "bag"
    camera = start(node(environment, "camera"), "publish", str(FRAMES))
    recorder = start("bag", "record", "-a", "-s", storage, "-o", bag, "--custom-data", "task=can_to_plate")
    recorder.wait_for("Subscribed to topic '/color'")
    recorder.wait_for("Subscribed to topic '/depth'")
    camera.wait_for("published")
    recorder.send(signal.SIGINT)
    assert recorder.wait() == 0, recorder.output

    with Reader(bag) as reader:
        topics = {item.topic: item for item in reader.connections}
        assert {"/color", "/depth"} <= set(topics)
        for topic, channels, reliability in (("/depth", 2, "RELIABLE"), ("/color", 3, "BEST_EFFORT")):
            item = topics[topic]
            assert item.msgtype == "sensor_msgs/msg/Image" and item.msgcount == FRAMES
            assert item.digest == "RIHS01_d31d41a9a4c4bc8eae9be757b0beed306564f7526c88ea6a4588fb9582527d47"
            assert "MSG: std_msgs/Header" in item.msgdef.data and "MSG: builtin_interfaces/Time" in item.msgdef.data
            assert [offer.reliability.name for offer in item.ext.offered_qos_profiles] == [reliability]
            store = get_typestore(Stores.ROS2_JAZZY)
            for number, (_, _, data) in enumerate(reader.messages([item])):
                message = store.deserialize_cdr(bytes(data), item.msgtype)
                assert (message.data == number).all() and message.data.size == 640 * 480 * channels
    metadata = yaml.safe_load((bag / "metadata.yaml").read_text())["rosbag2_bagfile_information"]
    assert metadata["storage_identifier"] == storage and metadata["custom_data"]["task"] == "can_to_plate"

    _, output = ros2("bag", "info", bag)
    assert f"Storage id:        {storage}\n" in output
    line = f"Topic: /depth | Type: sensor_msgs/msg/Image | Count: {FRAMES} | Serialization Format: cdr\n"
    assert line in output and "Bag size:          " in output

    camera.stop()
    listener = start(node(environment, "camera"), "listen", str(FRAMES))
    listener.wait_for("ready")
    code, output = ros2("bag", "play", bag)
    assert code == 0, output
    try:
        listener.wait_for("]}")
    except AssertionError:
        listener.send(signal.SIGINT)
        listener.wait()
    seen = json.loads(next(line for line in listener.output.splitlines() if line.startswith("{")))
    for arrivals in seen.values():
        assert [round(number) for number, _ in arrivals] == list(range(FRAMES))
        # The machine may be busy for a moment, but the whole keeps its time: 30 Hz.
        assert arrivals[-1][1] - arrivals[0][1] == pytest.approx((FRAMES - 1) / 30, abs=0.5)


@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
def test_info(ros2: Ros2, tmp_path: Path, typestore: object, storage: str) -> None:
    bag = write_bag(tmp_path / "bag", typestore, storage)
    file = "bag.mcap" if storage == "mcap" else "bag.db3"
    for path in (bag, bag / file):
        code, output = ros2("bag", "info", path, TZ="UTC")
        assert code == 0, output
        lines = output.splitlines()
        assert lines[0] == "" and lines[1] == f"Files:             {file}"
        assert lines[5:9] == [
            "Duration:          0.950000001s",
            "Start:             Nov 14 2023 22:13:20.000000000 (1700000000.000000000)",
            "End:               Nov 14 2023 22:13:20.950000001 (1700000000.950000001)",
            "Messages:          40",
        ]
        assert lines[9].startswith("Topic information: Topic: /first | Type: std_msgs/msg/String | Count: 20 | ")
    assert ros2("bag", "info", "-t", bag) == (0, "/first\n/second\n")


@pytest.mark.graph
def test_play_options(start: Callable[..., Process], ros2: Ros2, tmp_path: Path, typestore: object) -> None:
    bag = write_bag(tmp_path / "bag", typestore)
    listener = start("topic", "echo", "/renamed", "std_msgs/msg/String", "--qos-reliability", "reliable")
    other = start("topic", "echo", "/second", "std_msgs/msg/String")
    clock = start("topic", "echo", "/clock", "rosgraph_msgs/msg/Clock", "--field", "clock.sec")
    for _ in range(100):
        _, output = ros2("topic", "list", "--spin-time", "0.2")
        if {"/renamed", "/second", "/clock"} <= set(output.split()):
            break
    options = ("--topics", "/first", "--remap", "/first:=/renamed", "--clock", "50", "--rate", "0.5")
    offset = ("--start-offset", "0.25", "--playback-duration", "0.5", "--wait-for-all-acked", "5000")
    code, output = ros2("bag", "play", bag, *options, *offset)
    assert code == 0, output
    listener.wait_for("data: message 15\n")
    clock.wait_for("1700000000\n", 5)
    for process in (listener, other, clock):
        process.send(signal.SIGINT)
        process.wait()
    assert listener.output == "".join(f"data: message {number}\n---\n" for number in range(5, 16))
    assert other.output == ""


@pytest.mark.graph
def test_play_in_a_loop_until_stopped(start: Callable[..., Process], tmp_path: Path, typestore: object) -> None:
    bag = write_bag(tmp_path / "bag", typestore, count=5)
    listener = start("topic", "echo", "/first", "std_msgs/msg/String")
    player = start("bag", "play", bag, "--loop")
    listener.wait_for("data: message 4\n", 3)
    player.send(signal.SIGTERM)
    assert player.wait() == 0


@pytest.mark.alone
def test_spacing_is_kept(environment: dict[str, str], tmp_path: Path, typestore: object) -> None:
    # The player's clock alone, without DDS and other processes in between.
    import threading
    import time

    from embedded_ros2cli.bag.play import Clock

    clock, stopped, step = Clock(rate=2.0), threading.Event(), threading.Event()
    start_s = time.monotonic()
    clock.start(1_000_000_000)
    times = []
    for number in range(10):
        assert clock.wait_until(1_000_000_000 + number * 40_000_000, stopped, step)
        times.append(time.monotonic() - start_s)
    # Never early, and on time up to what else the machine does.
    assert all(time_s >= number * 0.02 for number, time_s in enumerate(times))
    assert sorted(after - before for before, after in pairwise(times))[5] == pytest.approx(0.02, abs=0.005)
    clock.set(paused=True)
    step.set()
    assert clock.wait_until(9_000_000_000, stopped, step) and clock.now_ns() == 9_000_000_000
    stopped.set()
    assert not clock.wait_until(10_000_000_000, stopped, step)


def test_bad_bags(ros2: Ros2, tmp_path: Path, typestore: object) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    good = write_bag(tmp_path / "good", typestore)
    cut = write_bag(tmp_path / "cut", typestore)
    (cut / "cut.mcap").write_bytes((cut / "cut.mcap").read_bytes()[:200])
    odd = write_bag(tmp_path / "odd", typestore)
    text = (odd / "metadata.yaml").read_text()
    (odd / "metadata.yaml").write_text(text.replace("storage_identifier: mcap", "storage_identifier: tape"))
    for path, message in (
        (tmp_path / "absent", "does not exist"),
        (empty, "no metadata.yaml"),
        (cut, "Failed to open bag"),
        (odd, "tape"),
    ):
        for verb in ("info", "play"):
            code, output = ros2("bag", verb, path)
            assert code == 1 and message in output and "Traceback" not in output, output
    code, output = ros2("bag", "play", good, "--topics", "/nothing")
    assert code == 1 and "None of the bag's topics is to be played" in output
    code, output = ros2("bag", "play", good, "--start-paused")
    assert code == 1 and "--start-paused needs a terminal" in output
    code, output = ros2("bag", "play", good, "--rate", "0")
    assert code == 2 and "less than or equal to zero" in output


def test_record_refuses(ros2: Ros2, tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    code, output = ros2("bag", "record", "-a", "-o", tmp_path / "there")
    assert code == 1 and "already exists" in output
    code, output = ros2("bag", "record", "-o", tmp_path / "new")
    assert code == 1 and "Need to specify at least one option" in output
    code, output = ros2("bag", "record", "-a", "-o", tmp_path / "new", "--custom-data", "task")
    assert code == 1 and "expected format 'KEY=VALUE'" in output
    assert not (tmp_path / "new").exists()


@pytest.mark.graph
def test_record_chosen_topics(start: Callable[..., Process], tmp_path: Path) -> None:
    bag = tmp_path / "bag"
    recorder = start("bag", "record", "--topics", "/chosen", "-o", bag)
    recorder.wait_for("Listening for topics...")
    values = ("std_msgs/msg/String", "{data: x}", "-r", "20")
    start("topic", "pub", "/other", *values)
    start("topic", "pub", "/chosen", *values, "--qos-durability", "transient_local")
    recorder.wait_for("Subscribed to topic '/chosen'")
    # It subscribed after the first message, which is latched.
    start("topic", "echo", "/chosen", "--once").wait()
    recorder.send(signal.SIGTERM)
    assert recorder.wait() == 0
    with Reader(bag) as reader:
        assert [item.topic for item in reader.connections] == ["/chosen"] and reader.message_count > 0
        assert reader.connections[0].ext.offered_qos_profiles[0].durability.name == "TRANSIENT_LOCAL"
