"""What info, play and record share."""

from __future__ import annotations

import argparse
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rclpy.qos import QoSProfile
    from rosbags.interfaces import Qos
    from rosbags.rosbag2 import Reader

#: What rmw takes for "no limit", and what rosbag2 writes for it.
_INFINITE_SEC = 9223372036
_NS = 1_000_000_000


def add_bag_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the argument that names a bag."""
    parser.add_argument("bag_path", type=Path, help="Bag to open")
    parser.add_argument("-s", "--storage", default="", help="Storage identifier; found out by itself")


@contextmanager
def open_bag(path: Path) -> Iterator[Reader]:
    """Open a bag: its folder, or the one storage file in it.

    Raises:
        RuntimeError: If it is none, or is damaged.
    """
    from rosbags.rosbag2 import Reader, ReaderError

    if not path.exists():
        raise RuntimeError(f"Bag path '{path}' does not exist!")
    folder = path.parent if path.is_file() and (path.parent / "metadata.yaml").is_file() else path
    if folder.is_dir() and not (folder / "metadata.yaml").is_file():
        raise RuntimeError(
            f"'{folder}' is no complete bag: it has no metadata.yaml. "
            "A recorder that was killed leaves such a folder behind."
        )
    try:
        reader = Reader(folder)
        reader.open()
    except (ReaderError, OSError, ValueError, KeyError) as error:
        raise RuntimeError(f"Failed to open bag '{path}': {error}") from error
    try:
        yield reader
    finally:
        reader.close()


def to_rclpy(offered: Qos, depth: int = 10) -> QoSProfile:
    """Return a recorded QoS profile for a publisher.

    Args:
        offered: Profile of the publisher that was recorded.
        depth: Queue size: what was recorded of it is unknown on most middleware.
    """
    from rclpy import qos

    def policy(kind: Any, value: Any, default: Any) -> Any:
        known = value.name in kind.__members__ and value.name not in ("UNKNOWN", "BEST_AVAILABLE")
        return kind[value.name] if known else default

    return qos.QoSProfile(
        history=qos.QoSHistoryPolicy.KEEP_LAST,
        depth=depth,
        reliability=policy(qos.QoSReliabilityPolicy, offered.reliability, qos.QoSReliabilityPolicy.RELIABLE),
        durability=policy(qos.QoSDurabilityPolicy, offered.durability, qos.QoSDurabilityPolicy.VOLATILE),
        liveliness=policy(qos.QoSLivelinessPolicy, offered.liveliness, qos.QoSLivelinessPolicy.AUTOMATIC),
        **{name: _duration(getattr(offered, name)) for name in ("deadline", "lifespan", "liveliness_lease_duration")},
    )


def _duration(time: Any) -> Any:
    from rclpy.duration import Duration

    # Zero is rcl's word for "not set", as is anything beyond what it can hold.
    infinite = time.sec >= _INFINITE_SEC
    return Duration() if infinite else Duration(seconds=time.sec, nanoseconds=time.nsec)


def from_rclpy(profile: QoSProfile) -> Qos:
    """Return a publisher's QoS profile as rosbag2 keeps it."""
    from rosbags.interfaces import Qos, QosDurability, QosHistory, QosLiveliness, QosReliability, QosTime

    def member(kind: Any, value: Any) -> Any:
        return kind.__members__.get(value.name, kind["UNKNOWN"])

    def time(duration: Any) -> QosTime:
        # Endless durations come as the largest integer or as rmw's own; rosbag2 writes the latter.
        seconds, rest = divmod(duration.nanoseconds, _NS)
        if seconds >= _INFINITE_SEC or duration.nanoseconds <= 0:
            return QosTime(_INFINITE_SEC, 854775807)
        return QosTime(seconds, rest)

    return Qos(
        history=member(QosHistory, profile.history),
        depth=profile.depth,
        reliability=member(QosReliability, profile.reliability),
        durability=member(QosDurability, profile.durability),
        deadline=time(profile.deadline),
        lifespan=time(profile.lifespan),
        liveliness=member(QosLiveliness, profile.liveliness),
        liveliness_lease_duration=time(profile.liveliness_lease_duration),
        avoid_ros_namespace_conventions=profile.avoid_ros_namespace_conventions,
    )


def publisher_profile(offered: list[Qos]) -> tuple[QoSProfile, str | None]:
    """Choose the profile to play a topic with.

    Args:
        offered: Profiles of the publishers that were recorded.

    Returns:
        The profile, and a warning where they differ.
    """
    from rclpy.qos import QoSProfile

    if not offered:
        return QoSProfile(depth=10), None
    first = offered[0]
    same = all((item.reliability, item.durability) == (first.reliability, first.durability) for item in offered)
    if same:
        return to_rclpy(first), None
    return QoSProfile(depth=10), "not all original publishers offered the same QoS; playing with the default profile"


def read_overrides(path: Path | None) -> dict[str, QoSProfile]:
    """Read a file of QoS profiles per topic.

    Raises:
        RuntimeError: If it can't be read or a value is not known.
    """
    import yaml
    from rclpy import qos

    if path is None:
        return {}
    kinds: dict[str, Any] = {
        "history": qos.QoSHistoryPolicy,
        "reliability": qos.QoSReliabilityPolicy,
        "durability": qos.QoSDurabilityPolicy,
        "liveliness": qos.QoSLivelinessPolicy,
    }
    try:
        profiles = {}
        for topic, settings in (yaml.safe_load(path.read_text()) or {}).items():
            values: dict[str, Any] = {"history": qos.QoSHistoryPolicy.KEEP_LAST, "depth": 10}
            for name, value in settings.items():
                values[name] = kinds[name].get_from_short_key(value) if name in kinds else _setting(value)
            profiles[topic] = qos.QoSProfile(**values)
    except (OSError, yaml.YAMLError, AttributeError, KeyError, TypeError, AssertionError) as error:
        raise RuntimeError(f"{path}: not a file of QoS profiles: {error}") from error
    return profiles


def _setting(value: Any) -> Any:
    from rclpy.duration import Duration

    if isinstance(value, dict):
        return Duration(seconds=value.get("sec", 0), nanoseconds=value.get("nsec", 0))
    return value


@contextmanager
def node_in_thread(name: str, log_level: str, **options: Any) -> Iterator[tuple[Any, threading.Event]]:
    """Start rclpy and a node, and spin it in a thread.

    Args:
        name: Name of the node.
        log_level: Its logging level.
        **options: Further arguments of create_node().

    Yields:
        The node, and an event that is set when Ctrl-C or SIGTERM has come: whoever plays or records ends in order.
    """
    import rclpy
    from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
    from rclpy.signals import SignalHandlerOptions

    stopped = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stopped.set())
    rclpy.init(args=["--ros-args", "--log-level", log_level], signal_handler_options=SignalHandlerOptions.NO)
    try:
        node = rclpy.create_node(name, **options)
        executor = SingleThreadedExecutor()
        executor.add_node(node)

        def spin() -> None:
            try:
                executor.spin()
            except ExternalShutdownException:
                stopped.set()

        thread = threading.Thread(target=spin, name="spin", daemon=True)
        thread.start()
        try:
            yield node, stopped
        finally:
            executor.shutdown(timeout_sec=1.0)
            thread.join(timeout=2.0)
    finally:
        rclpy.try_shutdown()
