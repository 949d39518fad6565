"""ros2 bag play."""

from __future__ import annotations

import argparse
import queue
import re
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from operator import ge
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..messages import load_interface
from .common import add_bag_arguments, node_in_thread, open_bag, publisher_profile, read_overrides
from .keyboard import Keyboard

if TYPE_CHECKING:
    from rclpy.node import Node
    from rosbags.interfaces import Connection

_NS = 1_000_000_000
#: Sleeping is exact to about 0.1 ms; the rest of the time to a message is waited for in a loop.
_SLEEP_MARGIN_S = 0.0002
#: Publishers wait at most this long for subscriptions that are in the graph already [s].
_MATCH_LIMIT_S = 3.0
#: Where no other node is found, one may still be late to answer [s].
_ALONE_S = 1.5
#: News of endpoints come within this time of each other [s].
_SETTLE_S = 0.5


def _positive(text: str) -> float:
    value = float(text)
    if value <= 0:
        raise argparse.ArgumentTypeError(f"Value {value} is less than or equal to zero.")
    return value


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    add_bag_arguments(parser)
    add = parser.add_argument
    add("--read-ahead-queue-size", type=int, default=100, help="messages read ahead (default: 100)")
    add("-r", "--rate", type=_positive, default=1.0, help="rate at which to play back messages")
    add("--topics", nargs="+", default=[], metavar="topic", help="topics to play")
    add("--exclude-topics", nargs="+", default=[], metavar="topic", help="topics not to play")
    add("-e", "--regex", default="", help="Play only topics that match this expression")
    add("-x", "--exclude-regex", default="", help="Do not play topics that match this expression")
    add("--qos-profile-overrides-path", type=Path, help="yaml file with QoS profiles for specific topics")
    add("-l", "--loop", action="store_true", help="start again at the end")
    add("-m", "--remap", nargs="+", default=[], help="topics to be remapped: old_topic1:=new_topic1 …")
    clock = parser.add_mutually_exclusive_group()
    clock.add_argument(
        "--clock", type=_positive, nargs="?", const=40.0, default=0.0, metavar="HZ", help="publish to /clock (40 Hz)"
    )
    clock.add_argument("--clock-topics-all", action="store_true", help="publish to /clock before each message")
    add("-d", "--delay", type=float, default=0.0, help="Sleep before play (each loop), in seconds")
    add("--playback-duration", type=float, default=-1.0, help="Stop after this many seconds of the bag")
    add("--playback-until-sec", type=float, default=-1.0, help="Stop at this time of the bag, seconds since epoch")
    add("--disable-keyboard-controls", action="store_true", help="ignore the keyboard")
    add("-p", "--start-paused", action="store_true", help="start paused: SPACE resumes, RIGHT plays one message")
    add("--start-offset", type=float, default=0.0, help="start this many seconds into the bag")
    add(
        "--wait-for-all-acked",
        type=int,
        default=-1,
        metavar="MS",
        help="at the end, wait this long until reliable subscribers have everything; 0 is for ever",
    )
    add("--disable-loan-message", action="store_true", help="accepted for likeness: nothing is loaned here")
    add("--log-level", choices=["debug", "info", "warn", "error", "fatal"], default="info", help="logging level")


@dataclass
class Clock:
    """Time of the bag against time of the machine."""

    rate: float
    paused: bool = False
    #: Bag time [ns] that was at the machine's time.
    bag_ns: int = 0
    #: Machine's time [s], monotonic.
    at_s: float = 0.0
    changed: threading.Condition = field(default_factory=threading.Condition)

    def start(self, bag_ns: int) -> None:
        """Set the bag's time."""
        with self.changed:
            self.bag_ns, self.at_s = bag_ns, time.monotonic()
            self.changed.notify_all()

    def now_ns(self) -> int:
        """Return the bag's time."""
        with self.changed:
            passed = 0.0 if self.paused else (time.monotonic() - self.at_s) * self.rate
            return self.bag_ns + int(passed * _NS)

    def set(self, *, paused: bool | None = None, rate: float | None = None) -> None:
        """Pause, resume, or change the rate from now on."""
        now = self.now_ns()
        with self.changed:
            self.paused = self.paused if paused is None else paused
            self.rate = self.rate if rate is None else rate
            self.bag_ns, self.at_s = now, time.monotonic()
            self.changed.notify_all()

    def wait_until(self, stamp_ns: int, stopped: threading.Event, step: threading.Event) -> bool:
        """Wait for a time of the bag.

        Args:
            stamp_ns: Time [ns].
            stopped: Ends the wait.
            step: While paused, ends the wait for one message.

        Returns:
            False if stopped.
        """
        while not stopped.is_set():
            if self.paused and step.is_set():
                step.clear()
                self.start(stamp_ns)
                return True
            left_s = 0.05 if self.paused else (stamp_ns - self.now_ns()) / _NS / self.rate
            if left_s <= 0 and not self.paused:
                return True
            if left_s > _SLEEP_MARGIN_S:
                with self.changed:
                    self.changed.wait(min(left_s - _SLEEP_MARGIN_S, 0.05))
        return False


class Player:
    """Plays a bag on a node."""

    def __init__(self, node: Node, args: argparse.Namespace, stopped: threading.Event) -> None:
        """Prepare the player.

        Args:
            node: Node.
            args: Parsed arguments.
            stopped: Set when it is to stop.
        """
        self.__node = node
        self.__args = args
        self.__stopped = stopped
        self.__step = threading.Event()
        self.__log = node.get_logger()
        self.__publishers: dict[int, Any] = {}
        self.__clock_publisher: Any = None
        self.clock = Clock(args.rate, paused=args.start_paused)

    def play(self, reader: Any) -> None:
        """Play the bag, again and again where asked.

        Raises:
            RuntimeError: If the bag is damaged or none of the topics can be played.
        """
        connections = self.__prepare(reader)
        if reader.message_count == 0:
            self.__log.warning("the bag holds no messages")
            return
        first = reader.start_time + int(self.__args.start_offset * _NS)
        last = self.__last(reader)
        while not self.__stopped.is_set():
            if self.__args.delay > 0:
                self.__stopped.wait(self.__args.delay)
            self.clock.start(first)
            self.__play_once(reader, connections, first, last)
            if not self.__args.loop:
                break
        self.__wait_acknowledged()

    def __last(self, reader: Any) -> int:
        limits: list[int] = []
        if self.__args.playback_duration >= 0:
            limits.append(reader.start_time + int((self.__args.start_offset + self.__args.playback_duration) * _NS))
        if self.__args.playback_until_sec >= 0:
            limits.append(int(self.__args.playback_until_sec * _NS))
        return max(limits) if limits else int(reader.end_time)

    def __prepare(self, reader: Any) -> list[Connection]:
        from rosgraph_msgs.msg import Clock as ClockMessage

        overrides = read_overrides(self.__args.qos_profile_overrides_path)
        remap = dict(rule.split(":=", 1) for rule in self.__args.remap if ":=" in rule)
        chosen = []
        for connection in reader.connections:
            if not self.__is_wanted(connection.topic):
                continue
            try:
                cls = load_interface(connection.msgtype, "msg")
            except RuntimeError:
                self.__log.warning(
                    f"Ignoring topic '{connection.topic}': its type '{connection.msgtype}' is not installed"
                )
                continue
            profile, warning = publisher_profile(connection.ext.offered_qos_profiles)
            if warning:
                self.__log.warning(f"{connection.topic}: {warning}")
            profile = overrides.get(connection.topic, profile)
            topic = remap.get(connection.topic, connection.topic)
            self.__publishers[connection.id] = self.__node.create_publisher(cls, topic, profile)
            chosen.append(connection)
        if reader.connections and not chosen:
            raise RuntimeError("None of the bag's topics is to be played: see --topics, --regex and the warnings above")
        if self.__args.clock or self.__args.clock_topics_all:
            self.__clock_publisher = self.__node.create_publisher(ClockMessage, "/clock", 10)
        self.__wait_matched()
        return chosen

    def __is_wanted(self, topic: str) -> bool:
        args = self.__args
        named = topic in args.topics or (bool(args.regex) and re.search(args.regex, topic) is not None)
        if (args.topics or args.regex) and not named:
            return False
        if (args.clock or args.clock_topics_all) and topic == "/clock":
            return False
        excluded = bool(args.exclude_regex) and re.search(args.exclude_regex, topic) is not None
        return topic not in args.exclude_topics and not excluded

    def __wait_matched(self) -> None:
        """Wait until the subscriptions that exist have found the publishers: the first messages matter too."""
        publishers = [*self.__publishers.values(), *([self.__clock_publisher] if self.__clock_publisher else [])]
        start = since = time.monotonic()
        known = None
        while time.monotonic() - start < _MATCH_LIMIT_S and not self.__stopped.is_set():
            time.sleep(0.02)
            now = time.monotonic()
            wanted = [self.__node.count_subscribers(item.topic) for item in publishers]
            matched = [item.get_subscription_count() for item in publishers]
            seen = (len(self.__node.get_node_names()), wanted, matched)
            if seen != known:
                known, since = seen, now
            # Endpoints become known after their nodes, so no news for a while is the only sign of the end.
            if all(map(ge, matched, wanted)) and now - since >= (_SETTLE_S if seen[0] > 1 else _ALONE_S):
                return

    def __messages(self, reader: Any, connections: list[Connection], first: int) -> Iterator[tuple[int, int, bytes]]:
        """Yield (connection id, time [ns], bytes), read ahead in a thread."""
        ahead: queue.Queue[Any] = queue.Queue(maxsize=max(1, self.__args.read_ahead_queue_size))
        leave = threading.Event()

        def put(item: Any) -> bool:
            while not leave.is_set():
                try:
                    ahead.put(item, timeout=0.1)
                    return True
                except queue.Full:
                    continue
            return False

        def read() -> None:
            try:
                for connection, stamp, data in reader.messages(connections, start=first):
                    if not put((connection.id, stamp, bytes(data))):
                        return
                put(None)
            except Exception as error:
                # Handed to the thread that plays, which raises it.
                put(error)

        thread = threading.Thread(target=read, name="read ahead", daemon=True)
        thread.start()
        try:
            while (item := ahead.get()) is not None:
                if isinstance(item, Exception):
                    raise RuntimeError(f"The bag is damaged: {type(item).__name__}: {item}") from item
                yield item
        finally:
            leave.set()
            thread.join()

    def __play_once(self, reader: Any, connections: list[Connection], first: int, last: int) -> None:
        with ExitStack() as stack:
            if self.__args.clock:
                done = threading.Event()
                thread = threading.Thread(target=self.__tick, args=(done,), name="clock", daemon=True)
                thread.start()
                stack.callback(thread.join)
                stack.callback(done.set)
            for number, stamp, data in self.__messages(reader, connections, first):
                if stamp > last or not self.clock.wait_until(stamp, self.__stopped, self.__step):
                    return
                if self.__args.clock_topics_all:
                    self.__publish_clock(stamp)
                self.__publishers[number].publish(data)

    def __tick(self, done: threading.Event) -> None:
        due = time.monotonic()
        while not done.is_set() and not self.__stopped.is_set():
            self.__publish_clock(self.clock.now_ns())
            due += 1.0 / self.__args.clock
            done.wait(max(0.0, due - time.monotonic()))

    def __publish_clock(self, stamp_ns: int) -> None:
        from rosgraph_msgs.msg import Clock as ClockMessage

        message = ClockMessage()
        message.clock.sec, message.clock.nanosec = divmod(stamp_ns, _NS)
        if self.__node.context.ok():
            self.__clock_publisher.publish(message)

    def __wait_acknowledged(self) -> None:
        from rclpy.duration import Duration

        timeout_ms = self.__args.wait_for_all_acked
        if timeout_ms < 0:
            return
        end = time.monotonic() + (timeout_ms / 1000 if timeout_ms else float("inf"))
        for publisher in self.__publishers.values():
            # In small steps, so that Ctrl-C is seen.
            while not publisher.wait_for_all_acked(Duration(nanoseconds=_NS // 10)):
                if self.__stopped.is_set():
                    return
                if time.monotonic() > end:
                    self.__log.error(f"{publisher.topic}: not everything was acknowledged within {timeout_ms} ms")
                    break

    def on_key(self, key: str) -> None:
        """Answer a key."""
        if key == " ":
            self.clock.set(paused=not self.clock.paused)
            self.__log.info("Pausing play." if self.clock.paused else "Resuming play.")
        elif key == "right":
            self.__step.set()
        elif key in ("up", "down"):
            self.clock.set(rate=max(0.1, round(self.clock.rate + (0.1 if key == "up" else -0.1), 2)))
            self.__log.info(f"Set rate to {self.clock.rate}")


def run(args: argparse.Namespace) -> str | None:
    """Play a bag."""
    keys = not args.disable_keyboard_controls and sys.stdin.isatty()
    if args.start_paused and not keys:
        return "--start-paused needs a terminal with the keyboard on: nothing could resume it"
    wrong = [rule for rule in args.remap if ":=" not in rule]
    if wrong:
        return f"malformed remapping '{wrong[0]}', expected format 'old_topic:=new_topic'"
    with open_bag(args.bag_path) as reader, ExitStack() as stack:
        node, stopped = stack.enter_context(node_in_thread("rosbag2_player", args.log_level))
        player = Player(node, args, stopped)
        if keys:
            stack.enter_context(Keyboard(player.on_key))
            print("Press SPACE for Pause/Resume, RIGHT for Play Next Message, UP/DOWN for Rate +/-10%")
        player.play(reader)
    return None
