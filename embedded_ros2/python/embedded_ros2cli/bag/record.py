"""ros2 bag record."""

from __future__ import annotations

import argparse
import queue
import re
import threading
import time
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .. import qos
from ..graph import is_hidden
from ..messages import load_interface
from .common import from_rclpy, node_in_thread, read_overrides
from .definitions import full_definition

if TYPE_CHECKING:
    from rclpy.node import Node

#: Messages that may wait for a subscription's turn; images of two cameras for about a second.
_DEPTH = 100


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    add = parser.add_argument
    add("-o", "--output", type=Path, help="Destination of the bagfile to create; default: a folder with the time")
    add("-s", "--storage", choices=["mcap", "sqlite3"], default="mcap", help="Storage identifier (default: mcap)")
    add("topics_positional", nargs="*", default=[], metavar="TOPIC", help="topics to record (deprecated)")
    add("--topics", nargs="+", default=[], metavar="TOPIC", help="topics to record")
    add("--topic-types", nargs="+", default=[], metavar="TYPE", help="topic types to record")
    add("-a", "--all", action="store_true", help="Record all topics (exclude hidden topics)")
    add("--all-topics", action="store_true", help="Record all topics (exclude hidden topics)")
    add("-e", "--regex", default="", help="Record only topics containing provided regular expression")
    add("--exclude-regex", default="", help="Exclude topics containing provided regular expression")
    add("--exclude-topic-types", nargs="+", default=[], metavar="TYPE", help="topic types not being recorded")
    add("--exclude-topics", nargs="+", default=[], metavar="TOPIC", help="topics not being recorded")
    add("--include-unpublished-topics", action="store_true", help="record topics which have no publisher")
    add("--include-hidden-topics", action="store_true", help="record hidden topics as well")
    add("--no-discovery", action="store_true", help="only topics present at startup will be recorded")
    add("-p", "--polling-interval", type=int, default=100, metavar="MS", help="between looks for new topics")
    add("--qos-profile-overrides-path", type=Path, help="yaml file with QoS profiles for specific topics")
    add("--max-cache-size", type=int, default=256 * 1024 * 1024, metavar="B", help="messages that wait for the disk")
    add("--use-sim-time", action="store_true", help="timestamps of /clock; nothing is written before the first")
    add("--node-name", default="rosbag2_recorder", help="recorder node name")
    add("--custom-data", nargs="*", default=[], metavar="KEY=VALUE", help="kept in the bag's metadata")
    add("--compression-mode", choices=["none", "file", "message"], default="none", help="mode of compression")
    add("--compression-format", choices=["zstd"], default=None, help="compression format")
    add("--disable-keyboard-controls", action="store_true", help="accepted for likeness: there are none")
    add("--log-level", choices=["debug", "info", "warn", "error", "fatal"], default="info", help="logging level")


class BagThread:
    """Writes a bag in a thread of its own, the only one that touches the storage (SQLite insists on that)."""

    def __init__(self, args: argparse.Namespace, path: Path) -> None:
        """Create the bag.

        Args:
            args: Parsed arguments.
            path: Folder of the bag.

        Raises:
            RuntimeError: If it can't be created.
        """
        self.__args = args
        self.__path = path
        self.__queue: queue.SimpleQueue[tuple[str, Any, Any] | None] = queue.SimpleQueue()
        self.__waiting_bytes = 0
        self.__lock = threading.Lock()
        self.__opened = threading.Event()
        #: Messages that found no place to wait for the disk.
        self.lost = 0
        self.written = 0
        self.error: Exception | None = None
        #: Set when nothing more can be written.
        self.failed = threading.Event()
        self.__thread = threading.Thread(target=self.__run, name="write")
        self.__thread.start()
        self.__opened.wait()
        if self.failed.is_set():
            self.__thread.join()
            raise RuntimeError(f"Failed to create bag '{path}': {self.error}")

    def add_topic(self, topic: str, **connection: Any) -> None:
        """Add a topic; the arguments are those of rosbags' add_connection()."""
        self.__queue.put((topic, None, connection))

    def write(self, topic: str, stamp_ns: int, data: bytes) -> None:
        """Write a message of a topic that was added."""
        with self.__lock:
            full = self.__waiting_bytes + len(data) > self.__args.max_cache_size
            if not full:
                self.__waiting_bytes += len(data)
        if full:
            self.lost += 1
        else:
            self.__queue.put((topic, stamp_ns, data))

    def close(self) -> None:
        """Write what waits and complete the bag."""
        self.__queue.put(None)
        self.__thread.join()

    def __run(self) -> None:
        try:
            writer = _open_writer(self.__args, self.__path)
        except Exception as error:
            # Raised again in the thread that waits for it.
            self.error = error
            self.failed.set()
            return
        finally:
            self.__opened.set()
        try:
            self.__write_all(writer)
            writer.close()
        except Exception as error:
            # A full disk, mostly: stop recording and say so, rather than go on with holes.
            self.error = error
            self.failed.set()

    def __write_all(self, writer: Any) -> None:
        connections: dict[str, Any] = {}
        try:
            while (item := self.__queue.get()) is not None:
                topic, stamp_ns, data = item
                if stamp_ns is None:
                    connections[topic] = writer.add_connection(topic, **data)
                    continue
                with self.__lock:
                    self.__waiting_bytes -= len(data)
                writer.write(connections[topic], stamp_ns, data)
                self.written += 1
        except Exception as error:
            # The bag is completed with what it holds.
            self.error = error
            self.failed.set()


class Recorder:
    """Subscribes to topics and hands what comes to the bag."""

    def __init__(self, node: Node, bag: BagThread, args: argparse.Namespace) -> None:
        """Prepare the recorder.

        Args:
            node: Node.
            bag: Bag.
            args: Parsed arguments.
        """
        self.__node = node
        self.__bag = bag
        self.__args = args
        self.__log = node.get_logger()
        self.__overrides = read_overrides(args.qos_profile_overrides_path)
        self.__known: set[str] = set()

    def subscribe_to_new(self) -> None:
        """Look for topics and subscribe to those that are to be recorded."""
        for topic, types in self.__node.get_topic_names_and_types():
            if topic in self.__known or not self.__is_wanted(topic, types):
                continue
            publishers = self.__node.get_publishers_info_by_topic(topic)
            if not publishers and not self.__args.include_unpublished_topics:
                continue
            self.__known.add(topic)
            if len(types) > 1:
                self.__log.warning(f"Topic '{topic}' has more than one type, it is not recorded: {types}")
                continue
            try:
                self.__subscribe(topic, types[0], publishers)
            except RuntimeError as error:
                self.__log.warning(f"Topic '{topic}' is not recorded: {error}")

    def missing(self) -> list[str]:
        """Return the topics asked for by name that have not been found."""
        return [topic for topic in self.__args.topics if topic not in self.__known]

    def __is_wanted(self, topic: str, types: list[str]) -> bool:
        args = self.__args
        if is_hidden(topic) and not args.include_hidden_topics:
            return False
        if topic in args.exclude_topics or set(types) & set(args.exclude_topic_types):
            return False
        if args.exclude_regex and re.search(args.exclude_regex, topic):
            return False
        if args.all or args.all_topics or topic in args.topics or set(types) & set(args.topic_types):
            return True
        return bool(args.regex) and re.search(args.regex, topic) is not None

    def __subscribe(self, topic: str, type_name: str, publishers: list[Any]) -> None:
        from rclpy.qos import QoSProfile

        cls = load_interface(type_name, "msg")
        profile = self.__overrides.get(topic)
        if profile is None:
            profile, notes = qos.matching(publishers, QoSProfile(depth=_DEPTH))
            for note in notes:
                self.__log.warning(f"{topic}: {note}")
        type_hash = str(publishers[0].topic_type_hash) if publishers else ""
        self.__bag.add_topic(
            topic,
            msgtype=type_name,
            msgdef=full_definition(type_name),
            rihs01=type_hash or "RIHS01_" + "0" * 64,
            offered_qos_profiles=[from_rclpy(info.qos_profile) for info in publishers],
        )

        def on_message(data: bytes, info: Any) -> None:
            if self.__args.use_sim_time:
                stamp = self.__node.get_clock().now().nanoseconds
                if stamp == 0:
                    return
            else:
                stamp = info["received_timestamp"] or time.time_ns()
            self.__bag.write(topic, stamp, data)

        callback: Any = on_message
        self.__node.create_subscription(cls, topic, callback, profile, raw=True)
        self.__log.info(f"Subscribed to topic '{topic}'")


def _check(args: argparse.Namespace) -> str | None:
    args.topics = args.topics or args.topics_positional
    if not (args.all or args.all_topics or args.topics or args.topic_types or args.regex):
        return "Need to specify at least one option out of --all, --all-topics, --topics, --topic-types or --regex"
    if args.exclude_regex and not (args.all or args.all_topics or args.topic_types or args.regex):
        return "--exclude-regex argument requires either --all, --all-topics, --topic-types or --regex"
    if args.compression_format and args.compression_mode == "none":
        return "Invalid choice: Cannot specify compression format without a compression mode."
    wrong = [item for item in args.custom_data if "=" not in item]
    if wrong:
        return f"malformed custom data '{wrong[0]}', expected format 'KEY=VALUE'"
    args.topics = [topic if topic.startswith("/") else f"/{topic}" for topic in args.topics]
    return None


def _open_writer(args: argparse.Namespace, path: Path) -> Any:
    from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer

    writer = Writer(
        path, version=9, storage_plugin=StoragePlugin.MCAP if args.storage == "mcap" else StoragePlugin.SQLITE3
    )
    if args.compression_mode != "none":
        # mcap compresses its own chunks, so that others can read the file.
        modes = {"file": CompressionMode.FILE, "message": CompressionMode.MESSAGE}
        mode = CompressionMode.STORAGE if args.storage == "mcap" else modes[args.compression_mode]
        writer.set_compression(mode, CompressionFormat.ZSTD)
    for item in args.custom_data:
        writer.set_custom_data(*item.split("=", 1))
    writer.open()
    return writer


def run(args: argparse.Namespace) -> str | None:
    """Record until Ctrl-C or SIGTERM."""
    path = args.output or Path(datetime.now().strftime("rosbag2_%Y_%m_%d-%H_%M_%S"))
    problem = _check(args)
    if problem:
        return problem
    if path.exists():
        return f"Output folder '{path}' already exists."
    from rclpy.parameter import Parameter

    overrides = [Parameter("use_sim_time", value=args.use_sim_time)]
    with node_in_thread(args.node_name, args.log_level, parameter_overrides=overrides) as (node, stopped):
        bag = BagThread(args, path)
        try:
            recorder = Recorder(node, bag, args)
            node.get_logger().info("Listening for topics...")
            looking = True
            while not stopped.is_set() and not bag.failed.is_set():
                if looking:
                    recorder.subscribe_to_new()
                    looking = not args.no_discovery or bool(recorder.missing())
                stopped.wait(args.polling_interval / 1000)
        finally:
            bag.close()
    if bag.error is not None:
        return f"Recording stopped, '{path}' holds what was written before: {bag.error}"
    if bag.lost:
        return f"{bag.lost} messages were lost: the disk was too slow. See --max-cache-size."
    print(f"Recording stopped: {bag.written} messages in '{path}'")
    return None
